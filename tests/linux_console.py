"""What a Linux kernel prints natively and as a Guest, and what may differ between the two, with the reason.

`comparable` takes away exactly what DIFFERENCES names. What is left must be equal, line by line: the kernel's own log
as well as everything that programs print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BANNER = "Linux version "
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()c].?)")


@dataclass(frozen=True, slots=True)
class Difference:
    """Why something differs, and what it looks like: its lines are dropped, or the match becomes `instead`."""

    why: str
    pattern: re.Pattern[str]
    instead: str | None = None


def _line(why: str, *patterns: str) -> Difference:
    return Difference(why, re.compile("|".join(patterns)))


def _part(why: str, pattern: str, instead: str) -> Difference:
    return Difference(why, re.compile(pattern, re.MULTILINE), instead)


DIFFERENCES: tuple[Difference, ...] = (
    _part("the log's time stamps: the clocks are different ones", r"^\[ *\d+\.\d{6}\] ", ""),
    _part("the Guest's console is virtio's, the native one a serial port", r"\bhvc0\b", "CONSOLE"),
    _part("the native console is a serial port", r"\bttyS0\b", "CONSOLE"),
    _part(
        "QEMU's APIC is not quite what the kernel expects",
        r"^-+\[ cut here \]-+\nWARNING: [^\n]*/apic/[^\0]*?^-+\[ end trace \w+ \]-+\n",
        "",
    ),
    _part("a Guest pretends to be of family 5", r"\bi[3-6]86\b", "i?86"),
    _line(
        "lguest has no firmware that reserves memory, so addresses and sizes of memory differ",
        r"BIOS-e820",
        r"^e820: ",
        r"^ ?LGUEST: ",
        r"physical RAM map",
        r"^Reserving virtual address space above ",
        r"^(last_pfn = |init_memory_mapping: |RAMDISK: |found SMP|initial memory mapped)",
        r"^(Allocated new|Move) RAMDISK|^Initializing HighMem for node|^debug: unmapping init memory",
        r"^(kernel direct mapping tables|Base memory trampoline|original variable MTRRs)",
        r"\d+MB (LOWMEM|HIGHMEM) available",
        r"^ +(mapped )?low ram: ",
        r"^ *(DMA|Normal|HighMem|node +\d+:|\d+:) .*(0x|->)",
        r"^  (node \d )?bootmap [0-9a-f]|^  node \d low ram: |^  #\d+ \[[0-9a-f]+ - ",
        r"^\(\d+(/\d+)? early reservations\)",
        r"^(early_node_map\[|Allocating PCI resources|On node \d)",
        r"Total pages: \d+",
        r"^Memory: \d+",
        r"^ +(fixmap|pkmap|vmalloc|lowmem) +: ",
        r"^PERCPU: Embedded",
        r"^Initmem setup node \d",
        r"^(PID|Dentry cache|Inode-cache|Mount-cache|TCP|UDP|UDP-Lite) .*hash table entries",
        r"^msgmni has been set to ",
    ),
    _part(
        "the top of a Guest's addresses is the Switcher's", r"^(Compat vDSO mapped to ).*", r"\1"
    ),
    _part("where the initial ramdisk lies", r"^(Freeing initrd memory: \w+).*", r"\1"),
    _line(
        "a Guest knows where it runs, and switches to paravirtual operations",
        r"^Booting paravirtualized kernel",
        r"^KVM setup|^kvm-clock",
        r"^Checking 'hlt' instruction",
        r"^lguest: Console via virtio-pci",
    ),
    _line(
        "the Guest's time stamp counter is marked unusable; the native one is measured",
        r"^tsc: |TSC",
        r"^Detected .* MHz processor",
        r"^Calibrating delay loop|^calibrate_delay_direct|^Probably due to long platform interrupts",
        r"^Time: \w+ clocksource has been installed",
        r"BogoMIPS",
        r"^(Switching|Switched) to clocksource|^Switched to NOHz mode",
        r"^Clocksource \w+ unstable",
        r"^clocksource (lguest|pit|tsc|hpet|acpi_pm|kvm-clock)\b",
        r"^sched_clock: ",
        r"^hrtimer: interrupt took \d+ ns|^sched: RT throttling activated",
    ),
    _part(
        "of a processor that says nothing of its caches nothing but the line's end is printed",
        r"^\n(?=(Compat vDSO .*\n)?CPU: )",
        "",
    ),
    _line(
        "they are two models of processor",
        r"^CPU(\d| \d)?: ",
        r"^\.* *Performance Events: ",
        r"^\.\.\. ",
        r"perfctr",
        r"^mce: |MCE",
        r"^Last level [id]TLB|^tlb_flushall_shift",
        r"^$",  # ends what is said of caches, also where there is nothing to say
        r"^(x86|MTRR|PAT|x2apic|NX \(Execute|Notice: NX)",
    ),
    _line(
        "lguest has none of a PC's devices, and hides those ports that there are",
        r"^(ACPI|PCI|pci|pnp|PnP|SMBIOS|DMI|HPET|hpet|IOAPIC|APIC|SFI|MP-?table|MPTABLE|ISA)\b",
        r"^(pci|pci_bus|pcieport|isapnp|vgaarb|agpgart|ata|scsi|piix|libata|usb\w*|[eou]hci.*)[: ]",
        r"^ACPI|^NR_IRQS|^\.\.TIMER|^(Enabling|Using|Local|No local) .*(APIC|IPI)|^Setting APIC",
        r"^\.\.MP-BIOS|^\.{3,} ?(trying|\(found|failed|works)",
        r"^smpboot: |^weird, boot CPU|^SMP (motherboard|disabled)|^Getting VERSION|^Intel Multi",
        r"^Brought up|^Total of \d+ process|^masked ExtINT|^ExtINT|^Booting Node",
        r"^(i8042|serio|input|mousedev|psmouse|atkbd|rtc_cmos|floppy|Floppy|i2c|lp|parport)\b",
        r"^Processors?[: ]|Virtual Wire compatibility mode",
        r"^platform (rtc_cmos|pcspkr)|^Real Time Clock|^drivers/rtc|^(hctosys|sr\d|sd |st )",
        r"^I/O APIC #\d|^IO APIC resources could",
        r"^Console: (colour|mono)",
        r"^serial8250: |^\w+: ttyS\d|^console \[\w+\] enabled|^00:\d\w: ",
        r"^virtio-pci|^virtio_\w+ virtio|^(hd|fd)\w: |^ide\w*|^Uniform ",
        r"^Trying to unpack rootfs image|^Unpacking initramfs",
    ),
    _line("a Guest has no large pages", r"^PERCPU: Allocated|^pcpu-alloc: s\d"),
    _line("lguest's devices", r"^Device at \d+ has size", r"^Mapping virtqueue \d"),
    _line(
        "a Guest's timer has no interrupt controller",
        r"^Trying to install interrupt handler for IRQ0$",
    ),
    _line(
        "drawn from interrupts and the clock", r"^random: ", r"^(\w+ )?entropy", r"^Magic number: "
    ),
    _line(
        "without ACPI a PC cannot switch itself off; lguest's Host can",
        r"(System halted|Power down)\.?$",
        r"^(acpi_power_off|APM|apm)",
    ),
    _line("the firmware and what it clears", r"^SeaBIOS|^Booting from|^iPXE|^early console"),
)


def comparable(text: bytes) -> list[str]:
    """The console's lines from the kernel's banner on, without what differs by nature."""
    plain = _ESCAPE.sub("", text.decode("latin-1").replace("\r", ""))
    start = plain.find(BANNER)
    plain = plain[max(start, 0) :]
    for difference in DIFFERENCES:
        if difference.instead is not None:
            plain = difference.pattern.sub(difference.instead, plain)
    unlike = [each.pattern for each in DIFFERENCES if each.instead is None]
    lines = (line.rstrip() for line in plain.splitlines())
    return [line for line in lines if not any(pattern.search(line) for pattern in unlike)]


__all__ = ["BANNER", "DIFFERENCES", "Difference", "comparable"]
