#!/usr/bin/python3
"""Celery, see README.md: 1,000 tasks, worker and server killed in turns; each task is done."""
import os, signal, subprocess, sys, tempfile, time

from celery import Celery
from kombu.exceptions import OperationalError

app = Celery("celery_round", broker=os.environ["AMQP_URL"])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=4, task_default_queue="celery-round",
                broker_transport_options={"confirm_publish": True}, broker_connection_retry_on_startup=True, broker_heartbeat=4)


@app.task(name="note")
def note(n):
    with open(os.environ["ROUND_DONE"], "a") as f:
        f.write(f"{n}\n")


def worker():
    return subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_round", "worker", "-c", "2", "--without-mingle", "-l", "ERROR"],
                            cwd=os.path.dirname(os.path.abspath(__file__)), start_new_session=True, stdout=subprocess.DEVNULL)


def kill(w):
    os.killpg(w.pid, signal.SIGKILL)
    w.wait()


def publish(n, **options):
    """Returns when the task is confirmed. Without an answer it is published again."""
    limit = time.monotonic() + 60
    while True:
        try:
            return note.apply_async((n,), retry=False, **options)
        except (OperationalError, OSError):
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)


def done():
    with open(os.environ["ROUND_DONE"]) as f:
        return [int(line) for line in f]


def until(wanted):
    limit = time.monotonic() + 90
    while left := set(wanted) - set(done()):
        if time.monotonic() > limit:
            sys.exit(f"{len(left)} tasks are not done after 90 s, such as {sorted(left)[:5]}")
        time.sleep(0.05)


def delete():
    with app.connection() as c:
        c.ensure_connection(max_retries=10, interval_start=0.2)
        c.default_channel.queue_delete("celery-round")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with tempfile.NamedTemporaryFile() as f:
        os.environ["ROUND_DONE"] = f.name
        delete()
        w = worker()
        try:
            for i in range(1000):
                publish(i)
                if i % 200 == 100:
                    until(range(i - 50))
                    if i % 400 == 100:
                        kill(w)
                        w = worker()
                    else:
                        print("kill", flush=True)
            until(range(1000))
            twice = len(done()) - 1000
            # Tasks for later are more than the prefetch: those for now are done nevertheless.
            for i in range(1000, 1030):
                publish(i, countdown=3600)
            for i in range(1030, 1050):
                publish(i)
            until(range(1030, 1050))
            if late := set(done()) & set(range(1000, 1030)):
                sys.exit(f"tasks were done an hour early: {sorted(late)}")
        finally:
            kill(w)
        delete()
        print(f"ok, {twice} tasks done twice")
