"""What happened, and how to be anywhere in it: traces, recording, replay, time travel.

    import replay

    with replay.open("x.lgt") as t:
        t.go("end")
        t.last_write(replay.register("eip"))

docs/python.md is a worked example. Read next: events.py for what a trace holds, timeline.py for moving in it.
"""
