"""VirtualWorld, asked as a machine asks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostvm.machine import Machine
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion
from replay.virtual_world import Arrival, VirtualWorld
from replay.world_time import FAR, VIRTUAL_EPOCH
from tests.replay.recorded import hello

TYPED = Completion(0, 0, 1, b"ls\n")
SEEDS = st.integers(0, (1 << 64) - 1)
TICKS = st.integers(0, 1 << 48).map(Tick)
DELAYS = st.integers(-(10**9), 10**12)


def deadline_in(world: VirtualWorld, tick: Tick, ns: int) -> Nanoseconds:
    return Nanoseconds(world.clock(tick, 0) + ns)


class TestVirtualWorld:
    @given(SEEDS, st.integers(1, 1000), TICKS, st.integers(0, 1000))
    def test_its_clock_never_goes_back(self, seed: int, pace: int, tick: Tick, more: int) -> None:
        world = VirtualWorld(seed, ns_per_tick=pace)
        assert world.clock(tick, 0) <= world.clock(Tick(tick + more), 1)

    def test_its_clock_advances_by_ten_nanoseconds_a_tick(self) -> None:
        world = VirtualWorld(5)
        assert abs(world.clock(Tick(1000), 0) - world.clock(Tick(0), 0) - 10_000) < 10

    def test_the_time_stamp_counter_runs_with_the_clock(self) -> None:
        world = VirtualWorld(5)
        for tick in (Tick(0), Tick(77), Tick(1 << 40)):
            assert world.tsc(tick, 0) == world.clock(tick, 0) - VIRTUAL_EPOCH

    @given(SEEDS, TICKS, DELAYS)
    def test_the_timer_is_up_from_the_horizon_on_and_not_before(
        self, seed: int, tick: Tick, delay: int
    ) -> None:
        world = VirtualWorld(seed, host_hz=0)
        world.program_timer(tick, deadline_in(world, tick, delay))
        horizon = world.horizon(tick)
        assert world.interrupt_line(horizon) == TIMER_VECTOR
        assert world.clock(horizon, 0) >= world.clock(tick, 0) + delay
        if horizon > tick:
            assert world.interrupt_line(Tick(horizon - 1)) is None

    @given(SEEDS, TICKS, DELAYS, st.lists(st.integers(0, 10**9), max_size=5))
    def test_asking_changes_nothing(
        self, seed: int, tick: Tick, delay: int, looks: list[int]
    ) -> None:
        asked, left_alone = VirtualWorld(seed, host_hz=0), VirtualWorld(seed, host_hz=0)
        for world in (asked, left_alone):
            world.program_timer(tick, deadline_in(world, tick, delay))
        for look in sorted(looks):
            asked.horizon(Tick(tick + look))
            asked.interrupt_line(Tick(tick + look))
            asked.clock(Tick(tick + look), 0)
        assert asked.horizon(tick) == left_alone.horizon(tick)
        assert asked.choose(tick, 0, 1000) == left_alone.choose(tick, 0, 1000)

    def test_latency_differs_from_one_deadline_to_the_next(self) -> None:
        world = VirtualWorld(3, host_hz=0, latency=100_000)
        latencies = set()
        for tick in range(10):
            deadline = deadline_in(world, Tick(tick), 0)
            world.program_timer(Tick(tick), deadline)
            latencies.add(world.clock(world.horizon(Tick(tick)), 0) - deadline)
        assert len(latencies) > 5

    def test_a_timer_taken_is_up_no_more(self) -> None:
        world = VirtualWorld(host_hz=0)
        world.program_timer(Tick(0), deadline_in(world, Tick(0), 50))
        due = world.horizon(Tick(0))
        world.interrupt_taken(due, 0, TIMER_VECTOR, 0, 0)
        assert world.interrupt_line(due) is None
        assert world.horizon(due) == FAR

    def test_the_host_takes_what_is_due_during_its_turn(self) -> None:
        world = VirtualWorld(host_hz=0)
        world.program_timer(Tick(0), deadline_in(world, Tick(0), 50))
        due = world.horizon(Tick(0))
        assert world.host_interrupt(Tick(due - 1), 0) is None
        assert world.host_interrupt(due, 0) == TIMER_VECTOR
        assert world.host_interrupt(due, 0) is None

    def test_a_stopped_timer_never_expires(self) -> None:
        world = VirtualWorld(host_hz=0)
        world.program_timer(Tick(0), deadline_in(world, Tick(0), 50))
        world.program_timer(Tick(1), None)
        assert world.horizon(Tick(1)) == FAR

    @given(SEEDS, TICKS, DELAYS)
    def test_waiting_jumps_to_the_deadline(self, seed: int, tick: Tick, delay: int) -> None:
        world = VirtualWorld(seed)
        deadline = deadline_in(world, tick, delay)
        world.program_timer(tick, deadline)
        assert world.wait(tick, 0) == TIMER_VECTOR
        assert world.clock(tick, 0) >= deadline
        assert world.interrupt_line(tick) is None

    def test_waiting_for_nothing_ends_the_machine(self) -> None:
        assert VirtualWorld().wait(Tick(9), 0) is None

    def test_what_is_scripted_arrives_in_time_and_once(self) -> None:
        world = VirtualWorld(host_hz=0, arrivals=[Arrival(Nanoseconds(1_000_000), TYPED)])
        due = world.horizon(Tick(0))
        assert world.clock(due, 0) >= VIRTUAL_EPOCH + 1_000_000
        assert world.interrupt_line(due) == DEVICE_VECTOR
        world.interrupt_taken(due, 0, DEVICE_VECTOR, 0, 0)
        assert world.completions(due) == (TYPED,)
        assert world.completions(due) == ()
        assert world.horizon(due) == FAR

    def test_the_timer_comes_before_the_device(self) -> None:
        world = VirtualWorld(latency=0, arrivals=[Arrival(Nanoseconds(100), TYPED)])
        world.program_timer(Tick(0), Nanoseconds(VIRTUAL_EPOCH + 100))
        assert [world.wait(Tick(0), 0) for _ in range(2)] == [TIMER_VECTOR, DEVICE_VECTOR]

    @given(SEEDS)
    def test_equal_seeds_give_equal_worlds(self, seed: int) -> None:
        one, other = VirtualWorld(seed), VirtualWorld(seed)
        for tick in map(Tick, range(0, 5000, 500)):
            assert one.choose(tick, 0, 97) == other.choose(tick, 0, 97)
            assert one.clock(tick, 0) == other.clock(tick, 0)


class TestTheHostsTick:
    """What a machine sees of it in virtual time."""

    @given(SEEDS, st.sampled_from([100, 250, 1000, 10_000]))
    def test_it_comes_so_many_times_a_second(self, seed: int, hz: int) -> None:
        world = VirtualWorld(seed, host_hz=hz)
        tick, times = Tick(0), []
        for _ in range(20):
            tick = world.horizon(tick)
            assert world.interrupt_line(tick) == TIMER_VECTOR
            world.interrupt_taken(tick, 0, TIMER_VECTOR, 0, 0)
            assert world.interrupt_line(tick) is None
            times.append(world.clock(tick, 0))
        assert abs(times[-1] - times[0] - 19 * 10**9 // hz) < 10_000

    def test_it_first_comes_at_a_time_that_depends_on_the_seed(self) -> None:
        assert len({VirtualWorld(seed).horizon(Tick(0)) for seed in range(20)}) == 20

    def test_what_was_missed_does_not_come_again(self) -> None:
        world = VirtualWorld(host_hz=1000)
        late = Tick(world.horizon(Tick(0)) + 1_000_000)
        world.interrupt_taken(late, 0, TIMER_VECTOR, 0, 0)
        assert late < world.horizon(late) < late + 110_000

    def test_an_idle_machine_does_not_see_it(self) -> None:
        world = VirtualWorld(host_hz=1000)
        deadline = deadline_in(world, Tick(0), 5_500_000)
        world.program_timer(Tick(0), deadline)
        assert world.wait(Tick(0), 0) == TIMER_VECTOR
        assert world.clock(Tick(0), 0) >= deadline
        assert world.interrupt_line(Tick(0)) is None

    def test_a_device_that_wakes_an_idle_machine_is_not_mistaken_for_it(self) -> None:
        world = VirtualWorld(host_hz=1000, arrivals=[Arrival(Nanoseconds(10**9), TYPED)])
        assert world.wait(Tick(0), 0) == DEVICE_VECTOR

    def test_it_does_not_keep_a_finished_machine_alive(self) -> None:
        world = VirtualWorld(host_hz=1000)
        assert world.wait(Tick(10**9), 0) is None

    def test_taking_it_stops_the_timer_as_well(self) -> None:
        """One interrupt of the hardware, one vector: the machine sets the timer anew after each."""
        world = VirtualWorld(host_hz=1000)
        world.program_timer(Tick(0), deadline_in(world, Tick(0), 10**12))
        taken = world.horizon(Tick(0))
        world.interrupt_taken(taken, 0, TIMER_VECTOR, 0, 0)
        assert world.wait(taken, 0) is None

    @given(SEEDS, st.lists(st.integers(0, 10**7), max_size=5))
    def test_looking_at_it_changes_nothing(self, seed: int, looks: list[int]) -> None:
        asked, left_alone = VirtualWorld(seed), VirtualWorld(seed)
        for look in sorted(looks):
            asked.horizon(Tick(look))
            asked.interrupt_line(Tick(look))
        assert asked.horizon(Tick(0)) == left_alone.horizon(Tick(0))

    def test_it_takes_a_guest_out_that_computes_for_ever(self) -> None:
        with_tick, without = HostsVectors(250), HostsVectors(0)
        for world in (with_tick, without):
            machine = Machine(hello("loops=50 hz=1"), world)
            machine.run(Tick(2_000_000))
        assert len(with_tick.vectors) > len(without.vectors) + 3


class HostsVectors(VirtualWorld):
    """Remembers which interrupts threw the Guest out."""

    def __init__(self, host_hz: int) -> None:
        super().__init__(1, host_hz=host_hz)
        self.vectors: list[int] = []

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        super().interrupt_taken(tick, guest, vector, eip, check)
        self.vectors.append(vector)
