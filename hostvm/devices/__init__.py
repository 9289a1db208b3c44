"""The Launcher's devices: virtio over lguest's descriptor page, for Guests from 2.6.25 to 4.0.

Read in this order: config.py (what a user may ask for), descriptor_page.py (how a Guest finds it), virtqueue.py (how
Guest and device pass buffers), device.py (what all devices do alike), console.py, rng.py and block.py, and bus.py, to
which the machine speaks.
"""
