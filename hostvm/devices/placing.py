"""Devices in their places, for any generation.

Read next: descriptor_page.py, config_list.py, lguest_bus.py or pci_placing.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostvm.abi import DevicePage
from hostvm.devices.config import DeviceConfig
from hostvm.devices.config_list import lay_out_config_list
from hostvm.devices.descriptor_page import DescriptorPage, lay_out_devices
from hostvm.devices.lguest_bus import lay_out_bus
from hostvm.devices.pci_placing import lay_out_pci


def place_devices(kind: DevicePage, memory: int, configs: Sequence[DeviceConfig]) -> DescriptorPage:
    """What the Launcher puts behind a Guest's `memory` bytes.

    Raises ConfigurationError for devices that Guests of this kind cannot have.
    """
    match kind:
        case DevicePage.LGUEST_BUS:
            return lay_out_bus(memory, configs)
        case DevicePage.CONFIG_LIST:
            return lay_out_config_list(memory, configs)
        case DevicePage.PCI:
            return lay_out_pci(memory, configs)
    return lay_out_devices(memory, configs)


__all__ = ["place_devices"]
