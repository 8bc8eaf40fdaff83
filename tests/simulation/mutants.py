"""What is broken on purpose, so that the simulation shows that it would find it."""
from __future__ import annotations

from typing import Any, Dict, List, Type

from microscoop.broker import Broker, Event, Heard, Send
from microscoop.protocol import Block, Idle, Result

FAULTS = (                 # of owners and workers; see world.fault
    "stays told", "waits in the dark", "pulls what was dropped", "believes a late Lost", "takes any piece",
    "asks for no other stream", "returns blocks over a sleeper", "forgets what runs at home",
    "keeps functions")


class Mutant(Broker):
    """A broker with a defect that shows every fifth time."""

    def __init__(self) -> None:
        super().__init__()
        self._times = 0

    def strikes(self) -> bool:
        """Whether it is wrong this time."""
        self._times += 1
        return self._times % 5 == 0

    def missing(self, event: Event, kind: type) -> List[Any]:
        """Handle an event; but now and then a message of this kind is not heard."""
        if isinstance(event, Heard) and type(event.message) is kind and self.strikes():
            event = event._replace(process=0)
        return super().handle(event)


class DropsAResult(Mutant):
    def handle(self, event: Event) -> List[Any]:
        return self.missing(event, Result)


class RequeuesTwice(Mutant):
    def _lost(self, *args: Any) -> None:
        super()._lost(*args)
        if self.strikes():
            super()._lost(*args)


class LosesAnIdle(Mutant):
    def handle(self, event: Event) -> List[Any]:
        return self.missing(event, Idle)


class ForgetsAHolder(Mutant):
    def _hand_back(self, *args: Any) -> None:
        if not self.strikes():
            super()._hand_back(*args)


class AcceptsALateResult(Mutant):
    def handle(self, event: Event) -> List[Any]:
        result = event.message if isinstance(event, Heard) else None
        late = isinstance(result, Result) and self._nobody_holds(event.process, result)  # type: ignore[union-attr]
        actions = super().handle(event)
        if late and isinstance(result, Result):
            actions.append(Send(result.owner, result._replace(worker=event.process)))  # type: ignore[union-attr]
        return actions

    def _nobody_holds(self, worker: int, result: Result) -> bool:
        process = self.processes.get(worker)
        held = process and process.find(result.owner, result.call, result.first)
        return held is None and result.owner in self.processes


class TellsNobodyOfFunctions(Mutant):
    def _hand_over(self, worker: Any) -> None:
        owner, _ = self._next_for(worker.host.crew)
        super()._hand_over(worker)
        owner.spread.clear()


class MixesPythons(Mutant):
    def handle(self, event: Event) -> List[Any]:
        if isinstance(event, Heard) and isinstance(event.message, Block) and self.strikes():
            event = event._replace(message=event.message._replace(minor=0))
        return super().handle(event)


MUTANTS: Dict[str, Type[Broker]] = {
    "drops a result": DropsAResult, "requeues twice": RequeuesTwice, "loses an Idle": LosesAnIdle,
    "forgets a holder at a death": ForgetsAHolder, "accepts a late result": AcceptsALateResult,
    "tells nobody to forget a function": TellsNobodyOfFunctions, "mixes Pythons": MixesPythons}
