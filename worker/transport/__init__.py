"""kombu's Redis transport, with jobs taken and settled by one script each.

kombu pops a job with BRPOP and notes in a second step that it is being worked on: a job popped
into a connection or a process that dies in between is gone. Here what waits in a queue is taken
and noted at once, as many as there are free slots. Only a worker that found nothing listens with
BRPOP. It is also a third of kombu's price: kombu makes a new client for each of its steps.
"""

from worker.transport.channel import Transport

__all__ = ["Transport"]
