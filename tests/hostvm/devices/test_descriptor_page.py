"""What a Guest finds on the page of devices, and what a user may ask to be there."""

from __future__ import annotations

import struct

import pytest

from hostvm.devices.config import BlockConfig, DeviceConfig, RngConfig, parse_device
from hostvm.devices.descriptor_page import lay_out_devices
from hostvm.errors import ConfigurationError

MIB = 1 << 20


def test_a_console_alone_has_two_queues_behind_the_page() -> None:
    page = lay_out_devices(4 * MIB, ())
    head = bytes((3, 2, 0, 0, 0))
    assert page.content == head + struct.pack("<HHIHHI", 256, 1, 0x401, 256, 2, 0x404)
    assert page.pfn_limit == 0x407
    (console,) = page.devices
    assert (console.number, console.address, console.status) == (0, 4 * MIB, 4 * MIB + 4)


def test_devices_come_in_order_and_the_console_last() -> None:
    page = lay_out_devices(MIB, (BlockConfig(2048), RngConfig()))
    content = page.content
    assert content[:5] == bytes((2, 1, 2, 16, 0))
    assert struct.unpack_from("<HHI", content, 5) == (256, 1, 0x101)
    assert content[13:17] == bytes((0x04, 0x02, 0, 0)), "SEG_MAX and FLUSH, none accepted"
    assert struct.unpack_from("<QII", content, 17) == (2048, 0, 254)
    assert content[33:38] == bytes((4, 1, 0, 0, 0))
    assert struct.unpack_from("<HHI", content, 38) == (256, 2, 0x104)
    assert content[46:51] == bytes((3, 2, 0, 0, 0))
    assert [queue.irq for device in page.devices for queue in device.queues] == [1, 2, 3, 4]
    assert [device.address - MIB for device in page.devices] == [0, 33, 46]
    assert page.devices[0].accepted == MIB + 15
    assert page.pfn_limit == 0x101 + 4 * 3


@pytest.mark.parametrize("config", [BlockConfig(1), BlockConfig(1 << 48), RngConfig()])
def test_a_device_is_what_its_text_says(config: DeviceConfig) -> None:
    assert parse_device(str(config)) == config


@pytest.mark.parametrize(
    "text", ["", "net", "block", "block:", "block:0", "block:-1", "block:1:2", "block:9" + 30 * "9"]
)
def test_what_is_no_device_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_device(text)
    assert "\n" not in str(caught.value)


def test_a_guest_has_no_more_interrupts_than_lguest_has() -> None:
    assert len(lay_out_devices(MIB, [RngConfig()] * 29).devices) == 30
    with pytest.raises(ConfigurationError):
        lay_out_devices(MIB, [RngConfig()] * 30)
