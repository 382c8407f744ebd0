"""A wait that pynetdicom needs before a request."""
import time


def pause(association):
    """Stops pynetdicom's own thread before a request does it, and does not see that it has not stopped yet: that thread would
    take the response off the queue that both read from."""
    association._reactor_checkpoint.clear()
    time.sleep(0.005)
