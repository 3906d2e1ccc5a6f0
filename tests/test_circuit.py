"""The circuit, step by step and under every sequence a hypothesis machine thinks of: checks that end late, operators who order
what they like, parents that recover."""

from copy import copy
from random import Random

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.circuit import LEGAL, Circuit, CircuitPolicy, Lease, Transition, Verdict
from exporter.model import CircuitState

POLICY = CircuitPolicy(
    interval_seconds=10.0,
    open_after=3,
    close_after=2,
    max_wait_seconds=40.0,
    max_retry_after_seconds=3600.0,
    confirm_seconds=5.0,
)


class Watching:
    """A circuit, its transitions, and checks made in one call."""

    def __init__(self) -> None:
        self.moved: list[Transition] = []
        self.circuit = Circuit(POLICY, self.moved.append)

    def check(self, verdict: Verdict, now: float, retry_after: float | None = None) -> None:
        lease = self.circuit.begin(now)
        assert lease is not None
        self.circuit.record(lease, verdict, now, Random(1), retry_after)


def opened() -> Watching:
    watching = Watching()
    for _ in range(POLICY.open_after):
        watching.check(Verdict.FAILED, 0.0)
    watching.moved.clear()
    return watching


CLOSED, OPEN, HALF_OPEN, FORCED = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN


def test_circuit_opens_after_open_after_failures_in_a_row() -> None:
    """A lone blip in between starts the count anew."""
    watching = Watching()
    for verdict in (Verdict.FAILED, Verdict.FAILED, Verdict.ANSWERED, Verdict.FAILED, Verdict.FAILED):
        watching.check(verdict, 0.0)
    assert watching.moved == []
    watching.check(Verdict.FAILED, 0.0)
    assert watching.moved == [(CLOSED, OPEN)]


def test_waits_double_up_to_max_wait_and_are_jittered_downwards_only() -> None:
    """Recovery must be noticed within max_wait, so the jitter never adds to it."""
    watching, now = opened(), 0.0
    for bound in (10.0, 20.0, 40.0, 40.0, 40.0):
        wait = watching.circuit.next_attempt - now
        assert 0.8 * bound <= wait <= bound
        now = watching.circuit.next_attempt
        watching.check(Verdict.FAILED, now)
    assert watching.moved == [(OPEN, HALF_OPEN), (HALF_OPEN, OPEN)] * 5


def test_after_a_recovery_the_waits_begin_anew() -> None:
    """The next outage has nothing to do with the last one."""
    watching = opened()
    for _ in range(3):
        watching.check(Verdict.FAILED, watching.circuit.next_attempt)
    for _ in range(POLICY.close_after):
        watching.check(Verdict.ANSWERED, watching.circuit.next_attempt)
    assert watching.circuit.closed
    for _ in range(POLICY.open_after):
        watching.check(Verdict.FAILED, 1000.0)
    assert watching.circuit.next_attempt <= 1000.0 + POLICY.interval_seconds


def test_half_open_closes_after_close_after_good_trials_confirm_apart() -> None:
    """One lucky answer is not a recovery."""
    watching = opened()
    now = watching.circuit.next_attempt
    watching.check(Verdict.ANSWERED, now)
    assert watching.moved == [(OPEN, HALF_OPEN)]
    assert watching.circuit.next_attempt == now + POLICY.confirm_seconds
    watching.check(Verdict.ANSWERED, now + 5)
    assert watching.moved[1:] == [(HALF_OPEN, CLOSED)]
    assert watching.circuit.status.next_attempt is None


def test_a_failed_trial_takes_the_good_ones_before_it_back() -> None:
    """close_after good trials in a row, not in all."""
    watching = opened()
    for verdict in (Verdict.ANSWERED, Verdict.FAILED, Verdict.ANSWERED):
        watching.check(verdict, watching.circuit.next_attempt)
    assert watching.circuit.state is HALF_OPEN


def test_a_lease_is_taken_back_once() -> None:
    """One check is one result."""
    circuit = Circuit(POLICY)
    lease = circuit.begin(0.0)
    assert lease is not None
    for _ in range(POLICY.open_after):
        circuit.record(lease, Verdict.FAILED, 0.0, Random(1))
    assert circuit.closed


def test_nothing_begins_before_the_next_attempt() -> None:
    """An open circuit sends nothing."""
    circuit = opened().circuit
    assert circuit.begin(circuit.next_attempt - 0.001) is None
    assert circuit.state is OPEN


def test_nothing_begins_while_a_check_is_under_way() -> None:
    """Never two checks of a probe at once, whoever asks."""
    circuit = Circuit(POLICY)
    lease = circuit.begin(0.0)
    assert lease is not None
    assert circuit.begin(1.0) is None
    circuit.record(lease, Verdict.ANSWERED, 2.0, Random(1))
    assert circuit.begin(2.0) is not None


def test_neutral_checks_count_as_nothing() -> None:
    """A shutdown or a bug of ours is not an outage."""
    watching = Watching()
    for _ in range(10):
        watching.check(Verdict.NEUTRAL, 0.0)
    assert watching.circuit.closed


def test_retry_after_is_obeyed_beyond_max_wait_but_not_beyond_its_own_bound() -> None:
    """Calling a rate-limited exchange too early turns a 429 into a ban."""
    watching = Watching()
    watching.check(Verdict.LIMITED, 100.0, 120.0)
    assert watching.moved == [(CLOSED, OPEN)]
    assert watching.circuit.next_attempt == 220.0
    watching.check(Verdict.LIMITED, 220.0, 1e9)
    assert watching.circuit.next_attempt == 220.0 + POLICY.max_retry_after_seconds


def test_a_recovered_parent_brings_the_next_attempt_forward_and_never_back() -> None:
    """It must not delay a child that was due sooner."""
    circuit = opened().circuit
    due = circuit.next_attempt
    circuit.bring_forward(due + 100)
    assert circuit.next_attempt == due
    circuit.bring_forward(1.0)
    assert circuit.begin(1.0) is not None
    assert circuit.state is HALF_OPEN


def test_a_recovered_parent_does_not_undo_a_retry_after() -> None:
    """The exchange's word counts, whatever else has recovered."""
    watching = Watching()
    watching.check(Verdict.LIMITED, 0.0, 600.0)
    watching.circuit.bring_forward(1.0)
    assert watching.circuit.next_attempt == 600.0


def test_forced_open_sends_nothing_until_its_end_and_ends_through_a_trial() -> None:
    """Maintenance that somebody forgot to end ends by itself, and not by believing."""
    watching = Watching()
    watching.circuit.force_open(300.0)
    assert (watching.circuit.begin(299.9), watching.circuit.status.next_attempt) == (None, 300.0)
    watching.check(Verdict.FAILED, 300.0)
    assert watching.moved == [(CLOSED, FORCED), (FORCED, HALF_OPEN), (HALF_OPEN, OPEN)]


def test_a_check_that_began_before_an_order_says_nothing_after_it() -> None:
    """A late result never changes a newer state: neither the force of an operator nor the trial after it."""
    watching = Watching()
    lease = watching.circuit.begin(0.0)
    assert lease is not None
    watching.circuit.force_open(300.0)
    watching.circuit.trial(1.0)
    assert watching.circuit.begin(1.0) is None  # it is still under way
    watching.circuit.record(lease, Verdict.FAILED, 2.0, Random(1))
    assert watching.circuit.state is HALF_OPEN
    assert watching.circuit.begin(2.0) is not None


def test_trial_and_reset_try_at_once_and_reset_forgets_the_level() -> None:
    """An operator who has mended the server need not wait; one who has not pays a short wait after a reset alone."""
    for order, longest in (("trial", POLICY.max_wait_seconds), ("reset", 2 * POLICY.interval_seconds)):
        watching = opened()
        for _ in range(4):
            watching.check(Verdict.FAILED, watching.circuit.next_attempt)
        getattr(watching.circuit, order)(200.0)
        assert watching.circuit.state is HALF_OPEN
        watching.check(Verdict.FAILED, 200.0)
        assert 0.8 * longest <= watching.circuit.next_attempt - 200.0 <= longest


def test_orders_to_a_closed_circuit_change_nothing() -> None:
    """It is at work already."""
    watching = Watching()
    watching.circuit.trial(1.0)
    watching.circuit.reset(1.0)
    assert (watching.circuit.closed, watching.moved) == (True, [])


class CircuitMachine(RuleBasedStateMachine):
    """Anybody may ask for anything at any time; checks take as long as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(POLICY, self.moved)
        self.rng = Random(0)
        self.now = 0.0
        self.lease: Lease | None = None
        self.began_in: CircuitState | None = None
        self.good_trials = 0
        self.limited = False

    def moved(self, transition: Transition) -> None:
        assert transition in LEGAL
        if transition[1] is HALF_OPEN:
            self.good_trials = 0
        if transition[1] is CLOSED:
            assert self.good_trials == POLICY.close_after
        self.began_in = None  # whoever began before says nothing any more

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        resting, due = not self.circuit.closed, self.now >= self.circuit.next_attempt
        lease = self.circuit.begin(self.now)
        assert (lease is None) == (self.lease is not None or (resting and not due))
        if lease is not None:
            assert self.circuit.state in (CLOSED, HALF_OPEN)
            self.lease, self.began_in = lease, self.circuit.state

    @precondition(lambda self: self.lease is not None)
    @rule(verdict=st.sampled_from(Verdict), retry_after=st.none() | st.floats(0, 10_000))
    def end(self, verdict: Verdict, retry_after: float | None) -> None:
        assert self.lease is not None
        state, attempt, late = self.circuit.state, self.circuit.next_attempt, self.began_in is None
        self.good_trials += not late and state is HALF_OPEN and verdict is Verdict.ANSWERED
        self.circuit.record(self.lease, verdict, self.now, self.rng, retry_after)
        self.lease = None
        if late:
            assert (self.circuit.state, self.circuit.next_attempt) == (state, attempt)
        elif verdict is Verdict.NEUTRAL:
            assert self.circuit.state is state
        elif self.circuit.state is OPEN:
            self.limited = verdict is Verdict.LIMITED

    @rule(seconds=st.floats(0, 1))
    def there_is_hope(self, seconds: float) -> None:
        before = self.circuit.next_attempt
        self.circuit.bring_forward(self.now + seconds)
        assert self.circuit.next_attempt <= before

    @rule(seconds=st.floats(1, 1000))
    def an_operator_forces(self, seconds: float) -> None:
        self.circuit.force_open(self.now + seconds)

    @rule(reset=st.booleans())
    def an_operator_orders_a_trial(self, reset: bool) -> None:
        (self.circuit.reset if reset else self.circuit.trial)(self.now)
        assert self.circuit.state in (CLOSED, HALF_OPEN)

    @invariant()
    def the_next_attempt_is_bounded(self) -> None:
        if self.circuit.state is OPEN and not self.limited:
            assert self.circuit.next_attempt <= self.now + POLICY.max_wait_seconds
        if self.circuit.state is HALF_OPEN:
            assert self.circuit.next_attempt <= self.now + max(POLICY.confirm_seconds, POLICY.interval_seconds)

    @invariant()
    def every_state_has_an_exit_without_a_human(self) -> None:
        """From here, a target that answers is closed again after its trials: on a copy, so that nothing is disturbed."""
        circuit, now = copy(self.circuit), self.now
        circuit._moved = lambda _: None
        if self.lease is not None:
            circuit.record(self.lease, Verdict.NEUTRAL, now, Random(0))
        for _ in range(POLICY.close_after + 1):
            now = max(now, circuit.next_attempt)
            lease = circuit.begin(now)
            assert lease is not None
            circuit.record(lease, Verdict.ANSWERED, now, Random(0))
        assert circuit.closed


CircuitMachine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCircuit = CircuitMachine.TestCase
