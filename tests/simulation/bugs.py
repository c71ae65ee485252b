"""The zoo: planted bugs, each a part of the simulation replaced by a broken one.

A harness that can't find these proves nothing. The product has no switch for any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from runtime.database import admissions, checkpoints, clock, jobs, outbox, outcomes, queue, workers
from tests.simulation import broken_dispatchers as dispatchers
from tests.simulation import broken_servers as servers
from tests.simulation import broken_workers
from tests.simulation.processes import STATEMENTS, Parts
from tests.simulation.statements import Statement


@dataclass(frozen=True)
class Bug:
    """A bug by the name of what is wrong."""

    name: str
    parts: Parts


def _statement(name: str, function: Callable[..., Any], statement: Statement) -> Bug:
    return Bug(name, Parts(statements={**STATEMENTS, function: statement}))


BUGS: Final = (
    # Intake
    Bug("offsets are committed before the rows are written", Parts(membership=dispatchers.CommitsFirst)),
    Bug(
        "a chunk is acknowledged when its handler raises",
        Parts(membership=dispatchers.AcknowledgesErrors, intake=dispatchers.TriesOnce),
    ),
    Bug("dead letters count as delivered when they are sent", Parts(publisher=servers.TrustsItsBuffer)),
    _statement("ids are compared without their tenant", admissions.admit_and_lease, servers.admit_by_id_alone),
    _statement(
        "a conflicting request replaces the first one", admissions.admit_and_lease, servers.admit_over_the_first
    ),
    Bug("a chunk that is tried again lets the next go first", Parts(intake=dispatchers.JumpsTheQueue)),
    # Dispatch
    _statement("a lease is taken whatever the job's state", jobs.lease, servers.lease_any_state),
    Bug("credit is not reduced by what was sent", Parts(dispatch=dispatchers.GivesCreditTwice)),
    Bug("a heartbeat counts as if it knew all that was sent", Parts(dispatch=dispatchers.IgnoresPositions)),
    Bug("a send that failed keeps its slot for ever", Parts(dispatch=dispatchers.ForgetsFailedSends)),
    Bug("a kind whose slots are full holds up the others", Parts(dispatch=dispatchers.BlocksEveryLane)),
    _statement("jobs that came by others are never found", queue.queued, servers.find_nothing),
    # Leases
    _statement("an end is written without looking at the epoch", outcomes.settle, servers.settle_unfenced),
    _statement("a lease is renewed without looking at the epoch", workers.renew_worker, servers.renew_unfenced),
    _statement("a renewal forgets the jobs' leases", workers.renew_worker, servers.renew_partition_alone),
    _statement("a partition is claimed while another holds it", workers.claim_partition, servers.claim_held_partition),
    Bug("a worker that lost its partition goes on", Parts(worker=broken_workers.IgnoresPartitionLoss)),
    Bug("a job whose lease is lost is not stopped", Parts(worker=broken_workers.IgnoresLeaseLoss)),
    # Reaper
    _statement("leases end by a clock on the dispatcher's wall", outcomes.reap, servers.reap_by_another_clock),
    _statement("the reaper looks at when a lease began", outcomes.reap, servers.reap_renewed),
    Bug(
        "leases are ended some time after they were looked at",
        Parts(
            reaper=dispatchers.EndsWhatItSaw,
            statements={
                **STATEMENTS,
                dispatchers.look: dispatchers.look,
                dispatchers.queue_again: dispatchers.queue_again,
            },
        ),
    ),
    _statement("a lost attempt is counted twice", outcomes.reap, servers.reap_counting_twice),
    _statement("a lost attempt is not counted", outcomes.reap, servers.reap_without_counting),
    Bug("attempts are counted in the reaper's memory", Parts(reaper=dispatchers.CountsInMemory)),
    _statement("the delay before the next attempt has no end", outcomes.reap, servers.reap_for_ever),
    # Control
    Bug(
        "a worker never hears of a cancel",
        Parts(
            control=dispatchers.TellsNoWorker,
            statements={**STATEMENTS, workers.renew_worker: servers.renew_without_wishes},
        ),
    ),
    _statement("a job is leased although its client cancelled it", jobs.lease, servers.lease_cancelled),
    _statement("a job is leased although its deadline has passed", jobs.lease, servers.lease_overdue),
    _statement("a dispatcher ends late jobs by another clock", clock.clock, servers.another_clock),
    Bug("a job goes on after its deadline", Parts(worker=broken_workers.IgnoresDeadlines)),
    # Checkpoints
    _statement("a checkpoint is saved without looking at the epoch", checkpoints.save, servers.save_unfenced),
    _statement("an attempt does not look for the checkpoint", checkpoints.find, servers.find_no_checkpoint),
    _statement("a checkpoint is found without its tenant", checkpoints.find, servers.find_what_is_kept_by_id),
    Bug("the last checkpoint goes before the next is there", Parts(worker=broken_workers.DeletesTooEarly)),
    Bug("a loser deletes the files that the row names", Parts(worker=broken_workers.DeletesWhatOthersNeed)),
    # Results
    _statement("a result is stored without its outbox row", outcomes.settle, servers.settle_without_outbox),
    _statement("the outbox's place passes running transactions", outbox.waiting, servers.wait_for_nobody),
    Bug("an outbox row is dropped before its event is in Kafka", Parts(relay=dispatchers.DropsFirst)),
    Bug("a batch says where it ends instead of where it begins", Parts(result_log=servers.MarksItsEnd)),
    Bug("who takes the results over does not look what is there", Parts(relay=dispatchers.LooksForNothing)),
    Bug("a batch whose mark is there counts as published", Parts(relay=dispatchers.TrustsTheMark)),
    Bug("an error that nobody expects ends the dispatcher", Parts(relay=dispatchers.DiesInStorms)),
    Bug("every dispatcher relays", Parts(relay=dispatchers.RelaysAlways, result_log=servers.NeverFenced)),
    # Worker
    Bug("a copy of a work record runs too", Parts(worker=broken_workers.RunsCopies)),
    Bug("a partition is read from its beginning, whoever it was for", Parts(reader=broken_workers.ReadsAll)),
    Bug("more jobs run at once than there are slots", Parts(worker=broken_workers.HidesWhatItHas)),
    Bug("a job is given the result of the one before", Parts(worker=broken_workers.MixesResults)),
)
