"""A real S3-compatible server on loopback, for tests."""

import logging
from contextlib import contextmanager

KEY, SECRET = "AKIAFOURWAYS", "s3cret-of-the-tests"
BUCKET = "lessons"


@contextmanager
def s3_server(port=0):
    """Serve S3 on 127.0.0.1 from a thread; yields the URL of the server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def options(endpoint):
    """The storage options of that server, credentials among them."""
    return {"key": KEY, "secret": SECRET, "endpoint_url": endpoint}


def make_bucket(endpoint, name=BUCKET):
    """Make a new bucket and return the URL of a store in it."""
    import s3fs

    s3fs.S3FileSystem(**options(endpoint), skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/fourways"
