"""Starts trainers that outlive this process, stops them safely, and keeps the queue: the only subprocesses here.

What happens to the caller (a closed page, a killed server) does not reach a trainer. From its start on, the run
directory is the truth.
"""

from moe_hub.launch.queueing import enqueue, is_worked, run_queue, start_queue
from moe_hub.launch.reconciliation import Reconciled, reconcile
from moe_hub.launch.starting import launch_run, start
from moe_hub.launch.stopping import STOP_PATIENCE_S, STOP_STAGES, escalate_stop, stop_stage
from moe_hub.launch.waiting import wait_for_end

__all__ = [
    "STOP_PATIENCE_S",
    "STOP_STAGES",
    "Reconciled",
    "enqueue",
    "escalate_stop",
    "is_worked",
    "launch_run",
    "reconcile",
    "run_queue",
    "start",
    "start_queue",
    "stop_stage",
    "wait_for_end",
]
