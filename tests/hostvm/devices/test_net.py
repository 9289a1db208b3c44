"""The network card through a driver, and two cards on one Ethernet on a machine that is recorded and replayed."""

from __future__ import annotations

import pytest

from hostvm.abi import DevicePage
from hostvm.devices.config import NetConfig, parse_device
from hostvm.devices.config_list import ENTRIES
from hostvm.devices.descriptor_page import NET_HEAD, lay_out_devices
from hostvm.errors import ConfigurationError
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import ConsoleOutput, PacketSent
from hostvm.units import Tick
from hostvm.world import World
from replay.ethernet import ports_of
from replay.events import DeviceCompletion, Event
from replay.host_world import HostWorld
from replay.recording import RecordingWorld
from replay.session import ReplayWorld
from replay.virtual_world import VirtualWorld
from tests.hostvm.devices.device_guest import DATA, MEMORY, Program
from tests.hostvm.devices.driver import WRITE, Bench, Driver
from tests.hostvm.lguest_kit import kills

CARDS = tuple(NetConfig(bytes((2, 0, 0, 0, 0, number))) for number in (1, 2))
EMPTY = NET_HEAD
END = Tick(1_000_000)


def frame(to: NetConfig, sender: NetConfig, text: bytes) -> bytes:
    return to.address + sender.address + b"\x88\xb5" + text.ljust(46, b"\0")


FRAME = frame(CARDS[0], CARDS[1], b"hello")


def started() -> tuple[Bench, Driver, Driver]:
    bench = Bench(CARDS[0])
    incoming, outgoing = bench.start("net")
    return bench, incoming, outgoing


def test_the_driver_is_told_the_cards_address() -> None:
    page = lay_out_devices(MEMORY, CARDS[:1])
    assert page.content[:2] == bytes((1, 2))
    queues = 2 * 8
    assert page.content[5 + queues] == 1 << 5
    assert page.content[5 + queues + 2 : 5 + queues + 8] == CARDS[0].address


def test_a_card_is_named_in_a_trace_and_found_again() -> None:
    assert parse_device(str(CARDS[1])) == CARDS[1]


@pytest.mark.parametrize("text", ["net:", "net:0200000000", "net:02000000000G", "net:030000000001"])
def test_what_is_no_cards_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_device(text)


def test_what_the_guest_sends_goes_out_without_its_header() -> None:
    bench, _, outgoing = started()
    outgoing.add(EMPTY, FRAME[:20], FRAME[20:])
    outgoing.ring()
    assert bench.notes.sent == [(0, FRAME)]
    assert outgoing.used == [(0, 0)]
    assert bench.notes.irqs == [outgoing.queue.irq]


def test_in_2_6_24_the_header_is_shorter() -> None:
    bench = Bench(CARDS[0], drivers=DevicePage.CONFIG_LIST)
    queues = bench.device("net").queues
    incoming, outgoing = (Driver(bench, queue, ENTRIES) for queue in queues)
    outgoing.add(bytes(8), FRAME)
    outgoing.ring()
    assert bench.notes.sent == [(0, FRAME)]
    (buffer,) = incoming.add(8 + len(FRAME))
    incoming.ring()
    bench.complete("net", incoming.queue, FRAME)
    assert bench.memory.read(buffer, 8 + len(FRAME)) == bytes(8) + FRAME
    assert incoming.used == [(0, 8 + len(FRAME))]


def test_a_header_alone_is_no_frame() -> None:
    bench, _, outgoing = started()
    outgoing.add(EMPTY)
    outgoing.ring()
    assert bench.notes.sent == []
    assert outgoing.used == [(0, 0)]


def test_what_comes_in_takes_the_next_buffer_that_waits() -> None:
    bench, incoming, _ = started()
    first, _ = incoming.add(len(NET_HEAD), 1514)
    head, second = incoming.add(len(NET_HEAD), 1514)
    incoming.ring()
    assert incoming.used == []
    bench.complete("net", incoming.queue, FRAME)
    bench.complete("net", incoming.queue, FRAME[::-1])
    assert bench.memory.read(first, len(NET_HEAD) + len(FRAME)) == EMPTY + FRAME
    assert bench.memory.read(head, len(NET_HEAD)) == EMPTY
    assert bench.memory.read(second, len(FRAME)) == FRAME[::-1]
    assert incoming.used == [(0, len(NET_HEAD) + len(FRAME)), (2, len(NET_HEAD) + len(FRAME))]
    assert bench.notes.irqs == [incoming.queue.irq] * 2


def test_what_comes_in_without_a_buffer_is_lost_and_nothing_else() -> None:
    bench, incoming, _ = started()
    before = bench.bus.digest_bytes()
    bench.complete("net", incoming.queue, FRAME)
    assert bench.bus.digest_bytes() == before
    incoming.add(len(NET_HEAD) + len(FRAME))
    bench.complete("net", incoming.queue, FRAME)
    assert incoming.used == [(0, len(NET_HEAD) + len(FRAME))]


def test_a_frame_that_does_not_fit_leaves_the_buffer_to_the_next() -> None:
    bench, incoming, _ = started()
    incoming.add(len(NET_HEAD) + 60)
    bench.complete("net", incoming.queue, bytes(61))
    assert incoming.used == []
    bench.complete("net", incoming.queue, bytes(60))
    assert incoming.used == [(0, len(NET_HEAD) + 60)]


def test_a_card_that_was_not_started_hears_nothing() -> None:
    bench = Bench(CARDS[0])
    bench.complete("net", bench.device("net").queues[0], FRAME)
    assert bench.notes.irqs == []


def test_buffers_of_the_wrong_direction_kill_as_in_lguests_launcher() -> None:
    bench, _, outgoing = started()
    outgoing.add(EMPTY, FRAME, 4)
    with kills("Input buffers in net output queue?"):
        outgoing.ring()
    bench, incoming, _ = started()
    incoming.add(FRAME, 1514)
    with kills("Output buffers in net input queue?"):
        bench.complete("net", incoming.queue, FRAME)


# Two Guests that send each other a frame.

SENT, GOT = DATA + 0x200, DATA + 0x400


def talker(own: NetConfig, other: NetConfig, text: bytes, *, begins: bool) -> GuestConfig:
    """A Guest that sends a frame, waits for one, the other way round if it does not begin; prints what came."""
    card, console = lay_out_devices(MEMORY, (own,)).devices
    message = EMPTY + frame(other, own, text)
    program = Program()
    program.start(card.address)
    program.start(console.address)
    program.fill(card.queues[0].address, [(GOT, 128, WRITE)])
    if not begins:
        program.await_used(card.queues[0].address, 1)
    for at, value in enumerate(message):
        program.store(SENT + at, value)
    program.fill(card.queues[1].address, [(SENT, len(message), 0)], quiet=True)
    program.await_used(card.queues[0].address, 1)
    program.fill(console.queues[1].address, [(GOT + len(NET_HEAD) + 14, 5, 0)])
    program.power_off()
    return program.guest(own)


GUESTS = (
    talker(CARDS[0], CARDS[1], b"alpha", begins=False),
    talker(CARDS[1], CARDS[0], b"omega", begins=True),
)


def recorded(world: World) -> tuple[Machine, list[Event]]:
    events: list[Event] = []
    recorder = RecordingWorld(world)
    recorder.attach(events.append)
    machine = Machine(MachineConfig(GUESTS, 1 << 14, 2), recorder)
    machine.run(END)
    return machine, events


@pytest.mark.parametrize("by_host", [False, True])
def test_two_guests_talk_and_a_replay_needs_no_network(by_host: bool) -> None:
    ports = ports_of(GUESTS)
    machine, events = recorded(
        HostWorld(3, host_hz=0, ports=ports) if by_host else VirtualWorld(3, host_hz=0, ports=ports)
    )
    printed = {e.guest: e.data for e in events if isinstance(e, ConsoleOutput)}
    assert printed == {0: b"omega", 1: b"alpha"}
    sent = {e.guest: e.data for e in events if isinstance(e, PacketSent)}
    came = {e.guest: e.data for e in events if isinstance(e, DeviceCompletion)}
    assert came == {0: sent[1], 1: sent[0]}
    again = Machine(machine.config, ReplayWorld(events, len(GUESTS)))
    again.run(END)
    assert (again.tick, again.digest()) == (machine.tick, machine.digest())


def test_without_an_ethernet_nothing_arrives() -> None:
    _, events = recorded(VirtualWorld(3))
    assert not any(isinstance(e, DeviceCompletion) for e in events)
