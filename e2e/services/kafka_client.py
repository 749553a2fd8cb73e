"""A Kafka client that is not ours: produces lines of standard input, or prints messages.

    python kafka_client.py produce BROKERS TOPIC        one message per line, as JSON texts
    python kafka_client.py consume BROKERS TOPIC N      N messages, a line each with its headers
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer


def produce(brokers, topic):
    producer = Producer({"bootstrap.servers": brokers})
    for line in sys.stdin:
        producer.produce(topic, json.loads(line).encode("latin-1"), key=b"poison")
    if producer.flush(30):
        sys.exit("not everything was delivered")


def consume(brokers, topic, n):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"look-{time.time()}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline, read = time.monotonic() + 30, 0
    while read < int(n) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None or message.error():
            continue
        read += 1
        headers = " ".join(f"{key}:{value.decode()!r}" for key, value in message.headers() or [])
        print(f"{message.value()!r} {headers}")
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
