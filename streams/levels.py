"""The jobs of one kind and one level of priority: by tenant in turn, of a tenant by model, of a model by rank."""

from typing import Final

from streams.fairness import Turns
from streams.waiting import GONE, ByRank, Waiting

#: What a tenant gets before it is the next one's turn, in tokens: less than a request, for the waits are the
#: shorter the finer the turns are, and empty rounds cost nothing.
TENANT_QUANTUM: Final = 256
#: What a model gets of a tenant's share: some requests in a row, which share a loaded model.
MODEL_QUANTUM: Final = 4_096


class Flow:
    """A tenant's jobs for one model. One that is parked waits for a worker, and takes no turns meanwhile."""

    __slots__ = ("jobs", "level", "model", "parked", "pushed", "tenant")

    def __init__(self, level: "Level", tenant: "Tenant", model: str) -> None:
        self.level = level
        self.tenant = tenant
        self.model = model
        self.jobs = ByRank(level.number)
        self.parked = False
        self.pushed = 0

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place among the flows of a lane when it is its turn: the least is first."""
        return (self.level.number, *self.level.turns.order(self.tenant.name))


class Tenant:
    """A tenant's jobs; its models take turns."""

    __slots__ = ("flows", "jobs", "name", "turns")

    def __init__(self, name: str) -> None:
        self.name = name
        self.flows: dict[str, Flow] = {}
        self.turns = Turns(MODEL_QUANTUM)
        self.jobs = 0


class Level:
    """The jobs of one level."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tenants: dict[str, Tenant] = {}
        self.turns = Turns(TENANT_QUANTUM)
        self.jobs = 0
        self.aging = ByRank(number)

    def push(self, item: Waiting) -> Flow:
        """Let a job wait here; the flow it belongs to, which is ready unless it is parked."""
        name, model = item.job.tenant, item.job.model
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = Tenant(name)
        flow = tenant.flows.get(model)
        if flow is None:
            flow = tenant.flows[model] = Flow(self, tenant, model)
        item.level = self.number
        item.ordinal = flow.pushed
        flow.pushed += 1
        flow.jobs.push(item)
        if self.number > 0:
            self.aging.push(item)
        tenant.jobs += 1
        self.jobs += 1
        if not flow.parked:
            self.ready(flow)
        return flow

    def remove(self, item: Waiting) -> None:
        """Take a job out, wherever in its flow it is."""
        tenant = self.tenants[item.job.tenant]
        flow = tenant.flows[item.job.model]
        item.level = GONE
        flow.jobs.left()
        if self.number > 0:
            self.aging.left()
        tenant.jobs -= 1
        self.jobs -= 1
        if not len(flow.jobs):
            self.unready(flow)
            del tenant.flows[flow.model]
        if not tenant.jobs:
            # Its models' turns are forgotten; what the tenant owes is not.
            del self.tenants[tenant.name]

    def next_flow(self) -> Flow | None:
        """The flow whose turn it is."""
        name = self.turns.first()
        if name is None:
            return None
        tenant = self.tenants[name]
        model = tenant.turns.first()
        assert model is not None  # a tenant without a ready flow takes no turns
        return tenant.flows[model]

    def charge(self, flow: Flow, cost: int) -> None:
        """Count what was taken from a ready flow, before it is taken out."""
        self.turns.charge(flow.tenant.name, cost)
        flow.tenant.turns.charge(flow.model, cost)

    def ready(self, flow: Flow) -> None:
        """Let a flow take its turns."""
        flow.tenant.turns.join(flow.model)
        self.turns.join(flow.tenant.name)

    def unready(self, flow: Flow) -> None:
        """Let a flow take no turns."""
        flow.tenant.turns.leave(flow.model)
        if not len(flow.tenant.turns):
            self.turns.leave(flow.tenant.name)

    def first_late(self, tenant: str) -> Waiting | None:
        """A job of the tenant's that would be one of its last ones."""
        found = self.tenants.get(tenant)
        return next(reversed(found.flows.values())).jobs.late() if found else None

    def soonest(self, most: int) -> list[Waiting]:
        """Some jobs whose turn is near, about in their order: one of each tenant, then another."""
        tenants = [self.tenants[name] for name in self.turns.soonest(most)]
        each = -(-most // max(len(tenants), 1))
        rows = [_first_jobs(tenant, each) for tenant in tenants]
        return [row[depth] for depth in range(each) for row in rows if depth < len(row)][:most]


def _first_jobs(tenant: Tenant, most: int) -> list[Waiting]:
    flows = [tenant.flows[model] for model in tenant.turns.soonest(most)]
    each = -(-most // max(len(flows), 1))
    rows = [flow.jobs.soonest(each) for flow in flows]
    return [row[depth] for depth in range(each) for row in rows if depth < len(row)][:most]
