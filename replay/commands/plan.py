"""From the options of `lgreplay record` to a machine, a World and a file name."""

from __future__ import annotations

import mmap
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hostvm.abi import Call, generation
from hostvm.devices.config import (
    SECTOR,
    BlockConfig,
    DeviceConfig,
    NetConfig,
    RngConfig,
    SharedNetConfig,
)
from hostvm.devices.placing import place_devices
from hostvm.errors import ConfigurationError
from hostvm.launcher import DEFAULT_MEMORY, GuestConfig
from hostvm.machine import MachineConfig
from hostvm.quirks import Quirk, corrected_names, quirks_without
from replay.catalogue import SHIPPED, find_kernel, read_kernel
from replay.commands.init_program import read_program, words_for
from replay.device_answers import Disks
from replay.ethernet import Peer, ports_of
from replay.host_world import Console, HostWorld
from replay.keep import Keep
from replay.trace_file import incomplete_path
from replay.virtual_world import VirtualWorld
from replay.world_time import HOST_HZ

CHAOS = "chaos"
COMPUTED = ("virtual", CHAOS)
INIT_GUESTS = tuple(name for name in SHIPPED if name.startswith("kestrel"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of `lgreplay record`."""

    guests: tuple[str, ...] = ("hello",)
    kernels: tuple[str, ...] = ()
    output: str | None = None
    memory: int | None = None
    initrd: str | None = None
    init: str | None = None
    arguments: tuple[str, ...] = ()
    command_line: str = ""
    abi: str | None = None
    blocks: tuple[str, ...] = ()
    rng: bool = False
    net: bool = False
    share_net: bool = False
    peer: str | None = None
    clock: str = "host"
    host_hz: int = HOST_HZ
    seed: int | None = None
    max_ticks: int | None = None
    keep_last: Keep | None = None
    quiet: bool = False
    interactive: bool = False
    reboot: bool = True
    syscall_vector: int = 0x80
    quirks: Mapping[str, bool] = field(default_factory=dict)


def free_name(stem: str) -> Path:
    """A trace name that is not taken: STEM.lgt, or the first free STEM-2.lgt, STEM-3.lgt ..."""
    number, path = 1, Path(f"{stem}.lgt")
    while path.exists() or incomplete_path(path).exists():
        number += 1
        path = Path(f"{stem}-{number}.lgt")
    return path


@dataclass(frozen=True, slots=True)
class Plan:
    """A machine to be, and what its World needs: disk images, and where what is typed goes."""

    config: MachineConfig
    disks: Disks
    typed: tuple[int, int] | None


def make_plan(wish: Wish) -> Plan:
    """Read the files that were named.

    Raises: OSError, ConfigurationError.
    """
    wish, initrd = with_init(wish) if wish.init else _with_initrd(wish)
    images = [_open_image(Path(name)) for name in wish.blocks]
    devices: tuple[DeviceConfig, ...] = tuple(disk for disk, _ in images)
    devices += (RngConfig(),) if wish.rng else ()
    net = wish.net or wish.peer is not None
    kernels = [find_kernel(words, wish.abi) for words in wish.guests]
    kernels += [read_kernel(Path(name), wish.abi) for name in wish.kernels]
    guests = tuple(
        GuestConfig(
            kernel=kernel.content,
            command_line=wish.command_line,
            memory=wish.memory if wish.memory is not None else DEFAULT_MEMORY,
            initrd=initrd,
            abi=kernel.abi,
            name=kernel.name,
            devices=(*devices, *_cards(number, net=net, shared=wish.share_net)),
        )
        for number, kernel in enumerate(kernels)
    )
    if net:
        _check_net(wish)
    disks = {
        (guest, rank): image
        for guest in range(len(guests))
        for rank, (_, image) in enumerate(images)
    }
    config = MachineConfig(
        guests,
        quirks=_quirks(wish, guests),
        restarts=wish.reboot,
        syscall_vector=wish.syscall_vector,
    )
    typed = _console_of(guests[0])
    if wish.interactive:
        _check_interactive(wish, guests[0], typed)
    return Plan(config, disks, typed)


def _quirks(wish: Wish, guests: Sequence[GuestConfig]) -> Quirk:
    """Lguest's bugs, but for those to correct. By itself a reset is heard where there is no other way to restart."""
    calls = [generation(guest.abi).hypercalls.values() for guest in guests]
    unheard = corrected_names(~Quirk.RESET_UNHEARD)
    said = dict.fromkeys(unheard, any(Call.SHUTDOWN not in each for each in calls))
    said.update(wish.quirks)
    return quirks_without(name for name in said if said[name])


def _cards(number: int, *, net: bool, shared: bool) -> tuple[DeviceConfig, ...]:
    """A Guest's network cards. The address of one is nobody's, in the range for such."""
    card = NetConfig(bytes((0x02, 0, 0, 0, 0, number + 1)))
    return (*([SharedNetConfig(number)] if shared else []), *([card] if net else []))


def _check_net(wish: Wish) -> None:
    if wish.peer is not None and wish.clock in COMPUTED:
        raise ConfigurationError(
            "--net-peer: another program needs the host's clock, not a virtual one"
        )


def _check_interactive(wish: Wish, guest: GuestConfig, typed: tuple[int, int] | None) -> None:
    if typed is None:
        raise ConfigurationError(f"-i: a guest of lguest {guest.abi} has no console to type at")
    if wish.clock in COMPUTED:
        raise ConfigurationError("-i: somebody who types needs the host's clock, not a virtual one")


def _with_initrd(wish: Wish) -> tuple[Wish, bytes]:
    if wish.arguments:
        raise ConfigurationError(f"{wish.arguments[0]!r}: arguments are for the program of --init")
    return wish, Path(wish.initrd).read_bytes() if wish.initrd else b""


def with_init(wish: Wish) -> tuple[Wish, bytes]:
    """The wish for a guest that runs the program of `--init`, and that guest's ramdisk.

    Raises: OSError, ConfigurationError.
    """
    assert wish.init is not None
    if wish.initrd:
        raise ConfigurationError(
            "--init: the program is the ramdisk, so --initrd cannot be another"
        )
    if wish.kernels or not set(wish.guests) <= set(INIT_GUESTS):
        raise ConfigurationError(f"--init: only {', '.join(INIT_GUESTS)} run a program")
    memory = DEFAULT_MEMORY if wish.memory is None else wish.memory
    program = read_program(Path(wish.init), memory)
    line = words_for(program, wish.command_line, wish.arguments, terminal=wish.interactive)
    return replace(wish, command_line=line), program.content


def _open_image(path: Path) -> tuple[BlockConfig, mmap.mmap]:
    """A disk, and its image in the file: read only, what a Guest writes is kept elsewhere."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ConfigurationError(f"{path}: an empty file is no disk")
        return BlockConfig(-(-size // SECTOR)), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _console_of(guest: GuestConfig) -> tuple[int, int] | None:
    """Device number and interrupt of a Guest's console; None where there is none."""
    devices = place_devices(generation(guest.abi).device_page, guest.memory, guest.devices).devices
    return (devices[-1].number, devices[-1].queues[0].irq) if devices else None


def make_world(
    wish: Wish, seed: int, plan: Plan, keys: int | None, passed: Callable[[bytes], bytes] = bytes
) -> HostWorld | VirtualWorld:
    """The World asked for; `keys` is a descriptor at which somebody types, and the Guest gets what `passed` leaves."""
    ports = ports_of(plan.config.guests)
    if wish.clock in COMPUTED:
        world = _chaos_world() if wish.clock == CHAOS else VirtualWorld
        return world(seed, disks=plan.disks, host_hz=wish.host_hz, ports=ports)
    console = None
    if keys is not None and plan.typed is not None:
        device, irq = plan.typed
        console = Console(keys, 0, device, irq, passed)
    peer = None if wish.peer is None else _connect(wish.peer)
    return HostWorld(seed, console, plan.disks, wish.host_hz, ports, peer)


def _chaos_world() -> type[VirtualWorld]:
    # It stands on all that a sweep does; most recordings need none of that.
    from replay.chaos import ChaosWorld

    return ChaosWorld


def _connect(path: str) -> Peer:
    """The peer that listens at a Unix socket. Raises ConfigurationError."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(path)
    except OSError as error:
        stream.close()
        raise ConfigurationError(f"--net-peer {path}: {error.strerror or error}") from error
    return Peer(stream)


def choose_seed(wish: Wish) -> int:
    """The seed asked for, or one that suits the clock."""
    if wish.seed is not None:
        return wish.seed
    return 0 if wish.clock == "virtual" else secrets.randbits(32)


__all__ = [
    "CHAOS",
    "COMPUTED",
    "INIT_GUESTS",
    "Plan",
    "Wish",
    "choose_seed",
    "free_name",
    "make_plan",
    "make_world",
    "with_init",
]
