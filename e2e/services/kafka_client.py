"""A Kafka client that is not ours: produces lines of standard input, or prints messages.

    python kafka_client.py produce BROKERS TOPIC        one message per line, as JSON texts
    python kafka_client.py consume BROKERS TOPIC N      N messages, a line each with its headers
    python kafka_client.py ends BROKERS TOPIC           each partition and the offset at which it ends
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition


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


def ends(brokers, topic):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "ends"})
    metadata = consumer.list_topics(topic, timeout=20)
    for partition in metadata.topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
        print(partition, end)
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "ends": ends}[sys.argv[1]](*sys.argv[2:])
