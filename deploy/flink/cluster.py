#!/usr/bin/env python3
"""A Flink session cluster for the job on this machine, made of separate processes and of nothing but packages.

    cluster.py up      job manager, task managers, Beam's job server and a pool of Python workers
    cluster.py status  what of it runs, and where
    cluster.py options the options that submit a job to it, as the command line takes them
    cluster.py down    all of it ends, by process id

Flink comes from the Python package apache-flink-libraries, Beam's job server from Maven. Both are kept in a
cache outside the project. Process ids, ports, configuration and logs lie in one folder (`--state`).
Needs Java 17 or 11, Maven and Python 3.10 or later with its venv module; Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLINK = "1.19.3"
BEAM_JAVA = "2.62.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatialvlm" / "flink"
# Beam's Java side reaches into classes that Java 17 keeps closed.
OPENS = [
    f"java.base/{package}"
    for package in (
        "java.lang",
        "java.util",
        "java.nio",
        "java.net",
        "java.util.concurrent",
        "java.time",
        "sun.nio.ch",
    )
]
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Flink's start scripts would compute these from the machine.
TASK_MANAGER_MEMORY = {
    "network.min": "384m",
    "network.max": "384m",
    "task.heap.size": "512m",
    "managed.size": "256m",
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.off-heap.size": "128m",
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "192m",
    "jvm-overhead.max": "192m",
}


class Trouble(Exception):
    """What stands in the way, and what helps; one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "status", "options", "down", "install"])
    parser.add_argument("--state", type=Path, default=ROOT / ".flink", help="folder for process ids, ports and logs")
    parser.add_argument("--task-managers", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--slots", type=int, default=2, help="task slots of each (default: 2)")
    parser.add_argument("--ui-port", type=int, default=8081, help="web interface and REST; 0: a free one")
    parser.add_argument("--job-port", type=int, default=8099, help="Beam's job server; 0: a free one")
    parser.add_argument("--pool-port", type=int, default=50000, help="Python workers; 0: a free one")
    parser.add_argument(
        "--python", default=str(ROOT / ".venv" / "bin" / "python"), help="Python of the workers, with this project"
    )
    parser.add_argument("--no-pool", action="store_true", help="without Python workers")
    parser.add_argument("--no-restarts", action="store_true", help="a lost task manager fails the job")
    parser.add_argument("--wait", type=float, default=180, help="seconds to wait for each process (default: 180)")
    options = parser.parse_args(arguments)
    try:
        commands = {"up": up, "status": status, "options": submit_options, "down": down, "install": lambda _: install()}
        commands[options.command](options)
    except Trouble as trouble:
        print(f"cluster.py: {trouble}", file=sys.stderr)
        return 1
    return 0


class Cluster:
    """The processes of a cluster and where they listen, as written in its state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.logs = self.state / "logs"
        self._file = self.state / "cluster.json"
        self.processes: dict[str, list[int]] = {}
        self.ports: dict[str, int] = {}
        self.job_server_jar = ""
        if self._file.exists():
            known = json.loads(self._file.read_text())
            self.processes, self.ports = known["processes"], known["ports"]
            self.job_server_jar = known["job_server_jar"]

    def save(self) -> None:
        """Write down what was started."""
        self.state.mkdir(parents=True, exist_ok=True)
        known = {"processes": self.processes, "ports": self.ports, "job_server_jar": self.job_server_jar}
        self._file.write_text(json.dumps(known, indent=2) + "\n")

    def forget(self) -> None:
        """Nothing runs any more."""
        self._file.unlink(missing_ok=True)

    def start(self, name: str, command: Sequence[str | Path], **environment: str) -> None:
        """Start a process in a group of its own, its output in a file of its name."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.state,
                env=os.environ | environment,
            )
        self.processes[name] = [process.pid, started_at(process.pid)]
        self.save()

    def runs(self, name: str) -> bool:
        """Whether a process is there and is the one that was started, not a later one of the same number."""
        pid, start = self.processes.get(name, [0, 0])
        return bool(pid) and started_at(pid) == start

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a process answers.

        Raises:
            Trouble: it ended, or did not answer in time; the message names its log.
        """
        end = time.monotonic() + seconds
        while not ready():
            if not self.runs(name):
                raise Trouble(f"{name} ended: {last_line(self.logs / f'{name}.log')} (see {self.logs / name}.log)")
            if time.monotonic() > end:
                raise Trouble(f"{name} does not answer after {seconds:.0f} s; see {self.logs / name}.log")
            time.sleep(0.25)

    def stop(self) -> None:
        """End every process, and what it started; politely first."""
        for names, how in ((list(self.processes), signal.SIGTERM), (list(self.processes), signal.SIGKILL)):
            for name in reversed(names):
                if self.runs(name) or how is signal.SIGKILL:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.processes[name][0], how)
            end = time.monotonic() + 10
            while any(self.runs(name) for name in names) and time.monotonic() < end:
                time.sleep(0.1)
        self.processes = {}
        self.forget()


def up(options: argparse.Namespace) -> None:
    """Start what does not run yet, and wait until all of it answers."""
    cluster = Cluster(options.state)
    python = shutil.which(options.python)
    if python is None and not options.no_pool:
        raise Trouble(f"--python: {options.python} is no program; run `make setup`, or name one with this project")
    if any(cluster.runs(name) for name in cluster.processes):
        raise Trouble(f"a cluster runs from {options.state}; end it with: cluster.py down")
    beam, flink = install()
    cluster.processes = {}
    cluster.ports = {
        "ui": options.ui_port or free_port(),
        "rpc": free_port(),
        "job": options.job_port or free_port(),
    }
    if not options.no_pool:
        cluster.ports["pool"] = options.pool_port or free_port()
    for name, port in cluster.ports.items():
        if listens(port):
            raise Trouble(f"port {port} is taken; choose another with --{name}-port")
    cluster.job_server_jar = str(job_server_jar(cluster.state, beam, flink))
    conf = configure(cluster, options)
    java = java_command(conf)
    try:
        cluster.start("jobmanager", [*java, "-Xmx512m", "-cp", f"{flink}/*", JOB_MANAGER, "--configDir", conf])
        cluster.wait_for("jobmanager", lambda: overview(cluster) is not None, options.wait)
        for number in range(options.task_managers):
            restart_task_manager(cluster, number)
        if not options.no_pool:
            start_pool(cluster, os.path.abspath(python or options.python))
            cluster.wait_for("pool", lambda: listens(cluster.ports["pool"]), options.wait)
        flags = [f"--flink-master=localhost:{cluster.ports['ui']}", f"--job-port={cluster.ports['job']}"]
        flags += ["--artifact-port=0", "--expansion-port=0", f"--artifacts-dir={cluster.state / 'artifacts'}"]
        cluster.start("jobserver", [*java, "-Xmx512m", "-cp", f"{beam}/*:{flink}/*", JOB_SERVER, *flags])
        cluster.wait_for("jobserver", lambda: listens(cluster.ports["job"]), options.wait)
        for number in range(options.task_managers):
            cluster.wait_for(f"taskmanager-{number}", partial(has_task_managers, cluster, number + 1), options.wait)
    except BaseException:
        cluster.stop()
        raise
    status(options)


def java_command(conf: Path) -> list[str]:
    """Java, opened as far as Beam needs it, with its log on standard output."""
    log4j = f"-Dlog4j.configurationFile=file:{conf / 'log4j.properties'}"
    return ["java", *(f"--add-opens={opened}=ALL-UNNAMED" for opened in OPENS), log4j]


def restart_task_manager(cluster: Cluster, number: int) -> None:
    """Start one task manager, for the first time or again; it finds the job manager by the configuration."""
    _, flink = install()
    conf = cluster.state / "conf"
    settings = {f"taskmanager.memory.{key}": value for key, value in TASK_MANAGER_MEMORY.items()}
    settings["taskmanager.cpu.cores"] = "2"
    flags = [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]
    command = [*java_command(conf), "-Xmx640m", "-cp", f"{flink}/*", TASK_MANAGER, "--configDir", conf, *flags]
    cluster.start(f"taskmanager-{number}", command)


def start_pool(cluster: Cluster, python: str) -> None:
    """Start Beam's worker pool, which runs `python` from the PATH for each worker: so its folder comes first."""
    folder = os.path.dirname(python)
    cluster.start(
        "pool",
        [python, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={cluster.ports['pool']}"],
        PATH=os.pathsep.join([folder, os.environ.get("PATH", "")]),
    )


def status(options: argparse.Namespace) -> None:
    """Print what runs and where."""
    cluster = Cluster(options.state)
    if not cluster.processes:
        raise Trouble(f"no cluster runs from {options.state}; start it with: cluster.py up")
    for name, (pid, _) in cluster.processes.items():
        print(f"{name:14} {'runs' if cluster.runs(name) else 'has ended':10} pid {pid}")
    seen = overview(cluster) or {}
    ui = f"http://localhost:{cluster.ports['ui']}"
    slots = seen.get("slots-total", 0)
    print(f"Flink {seen.get('flink-version', FLINK)}: {ui}, {slots} task slots, logs in {cluster.logs}")
    print(f"submit with: {' '.join(by_flink(cluster))}")
    endpoint = f"--runner=PortableRunner --job_endpoint=localhost:{cluster.ports['job']}"
    print(f"or, by the job server that runs already: {endpoint} {' '.join(by_flink(cluster)[4:])}")
    if not all(cluster.runs(name) for name in cluster.processes):
        raise Trouble("some of it has ended; see the logs, then: cluster.py down")


def submit_options(options: argparse.Namespace) -> None:
    """Print the options that submit a job to a running cluster."""
    cluster = Cluster(options.state)
    if not cluster.processes:
        raise Trouble(f"no cluster runs from {options.state}; start it with: cluster.py up")
    print(" ".join(by_flink(cluster)))


def by_flink(cluster: Cluster) -> list[str]:
    """The options of a job that Beam's Flink runner submits to a cluster's session."""
    return [
        "--runner=FlinkRunner",
        "--flink_version=1.19",
        f"--flink_master=localhost:{cluster.ports['ui']}",
        f"--flink_job_server_jar={cluster.job_server_jar}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{cluster.ports.get('pool', 50000)}",
        "--parallelism=2",
    ]


def down(options: argparse.Namespace) -> None:
    """End all of it."""
    Cluster(options.state).stop()


def configure(cluster: Cluster, options: argparse.Namespace) -> Path:
    """Write Flink's configuration; everything listens on this machine alone."""
    conf = cluster.state / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": cluster.ports["rpc"],
        "jobmanager.bind-host": "localhost",
        "jobmanager.memory.process.size": "1024m",
        "taskmanager.host": "localhost",
        "taskmanager.bind-host": "localhost",
        "taskmanager.numberOfTaskSlots": options.slots,
        "rest.address": "localhost",
        "rest.bind-address": "localhost",
        "rest.port": cluster.ports["ui"],
        "parallelism.default": 1,
        "heartbeat.interval": 2_000,
        "heartbeat.timeout": 20_000,
        "blob.storage.directory": str(cluster.state / "blobs"),
        "io.tmp.dirs": str(cluster.state / "tmp"),
        "web.submit.enable": "false",
    }
    if options.no_restarts:
        settings["restart-strategy.type"] = "none"
    else:
        settings |= {
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "5 s",
        }
    for name in ("blobs", "tmp"):
        (cluster.state / name).mkdir(exist_ok=True)
    (conf / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    (conf / "log4j.properties").write_text(
        "rootLogger.level = INFO\nrootLogger.appenderRef.out.ref = Console\n"
        "appender.out.name = Console\nappender.out.type = CONSOLE\n"
        "appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n\n"
    )
    return conf


def install() -> tuple[Path, Path]:
    """Fetch Beam's job server and Flink into the cache, once; returns their folders of jars."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Trouble(f"{program} is missing; run: sudo apt-get install openjdk-17-jre-headless maven")
    beam = CACHE / f"beam-{BEAM_JAVA}"
    if not (beam / ".complete").exists():
        print(f"fetching Beam's job server {BEAM_JAVA} into {beam}", file=sys.stderr)
        maven = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        run([*maven, f"-DoutputDirectory={beam}"], "Maven cannot fetch the job server")
        (beam / ".complete").touch()
    flink = CACHE / f"flink-{FLINK}"
    if not (flink / ".complete").exists():
        print(f"fetching Flink {FLINK} into {flink}", file=sys.stderr)
        shutil.rmtree(flink, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(flink)], "python needs its venv module")
        pip = [str(flink / "bin" / "pip"), "install", "-q", "--no-deps", f"apache-flink-libraries=={FLINK}"]
        run(pip, "pip cannot fetch Flink")
        (flink / ".complete").touch()
    (jars,) = flink.glob("lib/python*/site-packages/pyflink/lib")
    return beam, jars


def job_server_jar(state: Path, beam: Path, flink: Path) -> Path:
    """A jar that holds nothing but the way to the others, for `--flink_job_server_jar`, which takes one file."""
    jars = sorted([*beam.glob("*.jar"), *flink.glob("log4j-*.jar")])
    lines = [
        "Manifest-Version: 1.0",
        f"Main-Class: {JOB_SERVER}",
        f"Add-Opens: {' '.join(OPENS)}",
        f"Class-Path: {' '.join(jar.as_uri() for jar in jars)}",
    ]
    state.mkdir(parents=True, exist_ok=True)
    path = state / "beam-flink-job-server.jar"
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "".join(map(folded, lines)))
    return path


def folded(line: str) -> str:
    """A line of a manifest, which may not be longer than 72 bytes: the rest follows behind a space."""
    pieces = [line[:70], *(" " + line[start : start + 69] for start in range(70, len(line), 69))]
    return "".join(piece + "\r\n" for piece in pieces)


def run(command: Sequence[str], complaint: str) -> None:
    """Run a program; its last words are the reason when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Trouble(f"{complaint}: {words[-1][:300]}")


def overview(cluster: Cluster) -> dict[str, Any] | None:
    """What Flink's REST interface says of the cluster; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://localhost:{cluster.ports['ui']}/overview", timeout=2) as answer:
            seen: dict[str, Any] = json.load(answer)
            return seen
    except (OSError, ValueError):
        return None


def has_task_managers(cluster: Cluster, count: int) -> bool:
    """Whether so many have registered."""
    return int((overview(cluster) or {}).get("taskmanagers", 0)) >= count


def listens(port: int) -> bool:
    """Whether somebody answers on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("localhost", port)) == 0


def free_port() -> int:
    """A port that nobody uses now, and that no connection is given before it is used.

    Raises:
        OSError: a hundred of them are all in use.
    """
    # The kernel gives connections ports from 32768 (Linux) or 49152 (macOS) on.
    tried = random.SystemRandom().sample(range(20_000, 30_000), 100)
    for port in tried:
        with socket.socket() as probe:
            try:
                probe.bind(("localhost", port))
            except OSError:
                continue
            return port
    raise OSError(f"a hundred ports between 20000 and 30000 are all in use, {tried[0]} among them")


def started_at(pid: int) -> int:
    """When a process was started, in the kernel's ticks since boot; 0 when there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def last_line(log: Path) -> str:
    """The last words of a log."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
