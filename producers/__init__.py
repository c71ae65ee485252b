"""Every write of a request: the Python client and the command line.

with Headrace.connect() as headrace:
    job_id = headrace.submit(GenerateRequest(model="example-base", prompt="Hello"))
    print(headrace.result(job_id, timeout_s=60).result)
"""

from producers.asynchronous import AsyncHeadrace
from producers.client import Headrace
from producers.errors import ClientClosed, DeadLetterNotFound, NotRetried, ResultGone
from producers.status import JobStatus

__all__ = ["AsyncHeadrace", "ClientClosed", "DeadLetterNotFound", "Headrace", "JobStatus", "NotRetried", "ResultGone"]
