"""The circuit, step by step and under every sequence a hypothesis machine thinks of."""

from random import Random

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.circuit import LEGAL, Circuit, CircuitPolicy, Verdict
from exporter.model import CircuitState

POLICY = CircuitPolicy(
    interval_seconds=10.0,
    open_after=3,
    close_after=2,
    max_wait_seconds=40.0,
    max_retry_after_seconds=3600.0,
    confirm_seconds=5.0,
)


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit(POLICY)
    for _ in range(POLICY.open_after):
        circuit.record(Verdict.FAILED, now, Random(1))
    return circuit


def test_circuit_opens_after_open_after_failures_in_a_row() -> None:
    """A lone blip in between starts the count anew."""
    circuit = Circuit(POLICY)
    for verdict in (Verdict.FAILED, Verdict.FAILED, Verdict.ANSWERED, Verdict.FAILED, Verdict.FAILED):
        assert circuit.record(verdict, 0.0, Random(1)) is None
    assert circuit.record(Verdict.FAILED, 0.0, Random(1)) == (CircuitState.CLOSED, CircuitState.OPEN)


def test_waits_double_up_to_max_wait_and_are_jittered_downwards_only() -> None:
    """Recovery must be noticed within max_wait, so the jitter never adds to it."""
    circuit = opened()
    now = 0.0
    for bound in (10.0, 20.0, 40.0, 40.0, 40.0):
        wait = circuit.next_attempt - now
        assert 0.8 * bound <= wait <= bound
        now = circuit.next_attempt
        assert circuit.begin(now) == (CircuitState.OPEN, CircuitState.HALF_OPEN)
        assert circuit.record(Verdict.FAILED, now, Random(3)) == (CircuitState.HALF_OPEN, CircuitState.OPEN)


def test_half_open_closes_after_close_after_good_trials_confirm_apart() -> None:
    """One lucky answer is not a recovery."""
    circuit = opened()
    now = circuit.next_attempt
    circuit.begin(now)
    assert circuit.record(Verdict.ANSWERED, now, Random(1)) is None
    assert circuit.next_attempt == now + POLICY.confirm_seconds
    assert circuit.record(Verdict.ANSWERED, now + 5, Random(1)) == (CircuitState.HALF_OPEN, CircuitState.CLOSED)
    assert circuit.status.next_attempt is None


def test_once_closed_it_has_forgotten_how_long_it_waited() -> None:
    """The next outage is another one: it is looked at again after one interval."""
    circuit = opened()
    for verdict in (Verdict.FAILED, Verdict.FAILED, Verdict.ANSWERED, Verdict.ANSWERED):
        circuit.begin(circuit.next_attempt)
        circuit.record(verdict, circuit.next_attempt, Random(1))
    assert circuit.closed
    for _ in range(POLICY.open_after):
        circuit.record(Verdict.FAILED, 1000.0, Random(1))
    assert circuit.next_attempt <= 1000.0 + POLICY.interval_seconds


def test_nothing_begins_before_the_next_attempt() -> None:
    """An open circuit sends nothing."""
    circuit = opened()
    assert circuit.begin(circuit.next_attempt - 0.001) is None
    assert circuit.state is CircuitState.OPEN


def test_neutral_checks_count_as_nothing() -> None:
    """A shutdown or a bug of ours is not an outage."""
    circuit = Circuit(POLICY)
    for _ in range(10):
        assert circuit.record(Verdict.NEUTRAL, 0.0, Random(1)) is None
    assert circuit.closed


def test_retry_after_is_obeyed_beyond_max_wait_but_not_beyond_its_own_bound() -> None:
    """Calling a rate-limited exchange too early turns a 429 into a ban."""
    circuit = Circuit(POLICY)
    assert circuit.record(Verdict.LIMITED, 100.0, Random(1), 120.0) == (CircuitState.CLOSED, CircuitState.OPEN)
    assert circuit.next_attempt == 220.0
    circuit.begin(220.0)
    circuit.record(Verdict.LIMITED, 220.0, Random(1), 1e9)
    assert circuit.next_attempt == 220.0 + POLICY.max_retry_after_seconds


def test_trial_brings_the_next_attempt_forward_and_never_back() -> None:
    """A parent's recovery must not delay a child that was due sooner."""
    circuit = opened()
    due = circuit.next_attempt
    circuit.trial(due + 100)
    assert circuit.next_attempt == due
    circuit.trial(1.0)
    assert circuit.begin(1.0) == (CircuitState.OPEN, CircuitState.HALF_OPEN)


class CircuitMachine(RuleBasedStateMachine):
    """Drives a circuit as the schedule does: never a check before it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(POLICY)
        self.rng = Random(0)
        self.now = 0.0
        self.good_trials = 0
        self.limited = False

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit.closed or self.now >= self.circuit.next_attempt)
    @rule(verdict=st.sampled_from(Verdict), retry_after=st.none() | st.floats(0, 10_000))
    def check(self, verdict: Verdict, retry_after: float | None) -> None:
        began = self.circuit.begin(self.now)
        if began is not None:
            assert began in LEGAL
            self.good_trials = 0
        half_open = self.circuit.state is CircuitState.HALF_OPEN
        moved = self.circuit.record(verdict, self.now, self.rng, retry_after)
        self.good_trials += half_open and verdict is Verdict.ANSWERED
        assert moved is None or moved in LEGAL
        if moved is not None and moved[1] is CircuitState.CLOSED:
            assert self.good_trials == POLICY.close_after
        if moved is not None and moved[1] is CircuitState.OPEN:
            self.limited = verdict is Verdict.LIMITED

    @invariant()
    def the_next_attempt_is_bounded(self) -> None:
        if self.circuit.state is CircuitState.OPEN and not self.limited:
            assert self.circuit.next_attempt <= self.now + POLICY.max_wait_seconds
        if self.circuit.state is CircuitState.HALF_OPEN:
            assert self.circuit.next_attempt <= self.now + max(POLICY.confirm_seconds, POLICY.interval_seconds)


CircuitMachine.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCircuit = CircuitMachine.TestCase
