#!/usr/bin/python3
"""Celery, see README.md: 1,000 tasks, the worker killed in their midst; each task is done."""
import os, signal, subprocess, sys, tempfile, time

from celery import Celery

app = Celery("celery_round", broker=os.environ["AMQP_URL"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4, task_default_queue="celery-round",
                broker_transport_options={"confirm_publish": True}, broker_connection_retry_on_startup=True)


@app.task(name="note")
def note(n):
    with open(os.environ["ROUND_DONE"], "a") as f:
        f.write(f"{n}\n")


def worker():
    return subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_round", "worker", "-c", "2", "--without-mingle", "-l", "ERROR"],
                            cwd=os.path.dirname(os.path.abspath(__file__)), start_new_session=True)


def kill(w):
    os.killpg(w.pid, signal.SIGKILL)
    w.wait()


def done():
    with open(os.environ["ROUND_DONE"]) as f:
        return [int(line) for line in f]


def until(count):
    limit = time.monotonic() + 60
    while len(set(done())) < count:
        if time.monotonic() > limit:
            sys.exit(f"{len(set(done()))} of {count} tasks done after a minute")
        time.sleep(0.05)


if __name__ == "__main__":
    with tempfile.NamedTemporaryFile() as f:
        os.environ["ROUND_DONE"] = f.name
        with app.connection() as c:
            c.default_channel.queue_delete("celery-round")
        w = worker()
        try:
            for i in range(1000):
                note.delay(i)
                if i == 500:
                    until(50)
                    kill(w)
                    w = worker()
            until(1000)
        finally:
            kill(w)
        with app.connection() as c:
            c.default_channel.queue_delete("celery-round")
        print(f"ok, {len(done()) - 1000} tasks done twice")
