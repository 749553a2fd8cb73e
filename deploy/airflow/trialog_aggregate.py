"""An Airflow DAG that aggregates every hour, instead of Trialog's own schedule.

Where Airflow runs everything else, run Trialog with the roles `api,consumer` and
leave aggregation to this DAG. `trialog aggregate` is one run: it takes the lease,
so that it does no harm if an aggregator runs as well, and publishes all or nothing.

Its exit codes decide what becomes of the task: 0 published; 3 published, but some
experiments could not be computed, which is not mended by trying again; anything
else failed, and nothing of it was published.

The variables TRIALOG_CATALOG and TRIALOG_WAREHOUSE have to be in the environment
of the worker, or in a TOML file that TRIALOG_CONFIG names there.
"""

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

TRIALOG = os.environ.get("TRIALOG_BIN", "trialog")

# One line of JSON on standard output, which is the task's result (XCom): the run's
# number, position and time, and the experiments that could not be computed.
AGGREGATE = f"""
set -u
answer=$({TRIALOG} aggregate --format json)
code=$?
if [ "$code" = 3 ]; then
  echo "some experiments could not be computed" >&2
elif [ "$code" != 0 ]; then
  exit 1
fi
echo "$answer"
"""

with DAG(
    dag_id="trialog_aggregate",
    description="Computes and publishes the results of all experiments that were touched",
    schedule="5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    # A run covers everything since the last one, so runs that were missed are not made up for.
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(minutes=50),
    },
    tags=["trialog"],
) as dag:
    BashOperator(
        task_id="aggregate",
        bash_command=AGGREGATE,
        append_env=True,
        do_xcom_push=True,
    )
