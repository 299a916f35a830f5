"""Start `spatialvlm train`: a process for each GPU, on one machine or, with the same command on each, on many.

    python launch_training.py [--accelerate fsdp.yaml] [--processes N] train --data OUT --output CKPT --resume

Everything after `train` is the command's. Which machine this is says the environment: `CLUSTER_SPEC`, as Vertex AI
sets it, or PyTorch's MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE, counted in machines. Without either it is alone.

The machine of rank 0 first tries the command with `--dry-run`, so that a mistake ends with code 2 before any machine
waits for another. SIGTERM is passed on, and the processes have `--grace` seconds to save a checkpoint; the exit code
is then 143 whatever theirs is, because work that was cut off is not done. Otherwise 0 or what the training ended with.
Needs the standard library, and accelerate (extra `train`) where there is more than one process.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
USAGE = 2
# Machines with GPUs may be long in coming.
WAIT_FOR_MACHINES_S = 3600
# What PyTorch reads in a process that it starts; an environment counted in machines would be misread.
_COUNTED = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


class Mistake(Exception):
    """An environment or option that the caller has to mend."""


@dataclass(frozen=True)
class Machines:
    """How many machines train together, which of them this is, and where that of rank 0 listens."""

    count: int = 1
    rank: int = 0
    address: str = "127.0.0.1"
    port: int = 29500


def machines(environment: Mapping[str, str]) -> Machines:
    """The machines that an environment tells of.

    Raises:
        Mistake: a part is missing or is no number, or this machine is none that trains.
    """
    if environment.get("CLUSTER_SPEC"):
        return _vertex(environment["CLUSTER_SPEC"], environment)
    if not environment.get("MASTER_ADDR"):
        return Machines()
    found = Machines(
        count=_number(environment, "WORLD_SIZE"),
        rank=_number(environment, "RANK"),
        address=environment["MASTER_ADDR"],
        port=_number(environment, "MASTER_PORT", Machines.port),
    )
    if not 0 <= found.rank < found.count:
        raise Mistake(f"RANK {found.rank} is not below WORLD_SIZE {found.count}; both count machines")
    return found


def _vertex(text: str, environment: Mapping[str, str]) -> Machines:
    """Pool 0 is the first machine and pool 1 all others; pools 2 and 3 are for servers and evaluators."""
    try:
        spec = json.loads(text)
        cluster, task = spec["cluster"], spec["task"]
        pools = [name for name in ("workerpool0", "workerpool1") if cluster.get(name)]
        addresses = [address for name in pools for address in cluster[name]]
        pool, index = task["type"], int(task["index"])
        host, _, port = addresses[0].partition(":")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Mistake(f"CLUSTER_SPEC is not what Vertex AI sets ({type(error).__name__}): {text[:200]}") from error
    if pool not in pools:
        raise Mistake(f"CLUSTER_SPEC: a machine of {pool} does not train; use the first two pools only")
    rank = index + sum(len(cluster[name]) for name in pools[: pools.index(pool)])
    return Machines(len(addresses), rank, host, _number(environment, "MASTER_PORT", int(port or Machines.port)))


def _number(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environment.get(name, "" if otherwise is None else str(otherwise))
    try:
        return int(text)
    except ValueError as error:
        raise Mistake(f"{name} is {text!r}, not a number, though MASTER_ADDR is set") from error


def training_command(
    program: Path, arguments: Sequence[str], *, group: Machines, processes: int, accelerate: Path
) -> list[str]:
    """The command that this machine runs.

    Args:
        program: the command `spatialvlm`.
        arguments: its arguments.
        group: all machines.
        processes: how many processes run on each of them.
        accelerate: accelerate's configuration.
    """
    training = [str(program), *arguments]
    if group.count * processes == 1:
        return [sys.executable, *training]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate)]
    launcher += ["--num_machines", str(group.count), "--machine_rank", str(group.rank)]
    launcher += ["--main_process_ip", group.address, "--main_process_port", str(group.port)]
    launcher += ["--num_processes", str(group.count * processes), "--rdzv_conf", f"timeout={WAIT_FOR_MACHINES_S}"]
    return [*launcher, *training]


def training_environment(environment: Mapping[str, str], grace_s: int) -> dict[str, str]:
    """What the training's processes see: nothing that counts machines, and PyTorch's patience at their end."""
    kept = {name: value for name, value in environment.items() if name not in _COUNTED}
    return kept | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(grace_s)}


def gpus() -> int:
    """How many GPUs this machine has."""
    import torch

    return int(torch.cuda.device_count())


class Child:
    """One process after another, and SIGTERM on its way to the one that runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.terminated = False
        # The first process of a container hears no signal that it does not ask for.
        signal.signal(signal.SIGTERM, self._pass_on)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Wait for a command to end; returns its exit code, or 128 and the number of the signal that ended it."""
        if self.terminated:
            return TERMINATED
        self._process = subprocess.Popen(command, env=dict(environment))
        if self.terminated:
            self._process.terminate()
        code = self._process.wait()
        if self.terminated:
            return TERMINATED
        return code if code >= 0 else 128 - code

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a script; returns the exit code."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerate", type=Path, default=here / "ddp.yaml", help="accelerate's configuration")
    parser.add_argument("--processes", type=int, help="processes on each machine; its GPUs, or one, unless given")
    parser.add_argument("--grace", type=int, default=270, help="seconds to save a checkpoint in after SIGTERM")
    program = Path(sys.executable).with_name("spatialvlm")
    parser.add_argument("--program", type=Path, default=program, help="the command; beside this Python unless given")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="train, and the arguments of spatialvlm train")
    given = parser.parse_args(arguments)
    child = Child()
    try:
        if given.arguments[:1] != ["train"]:
            raise Mistake("the command to start is train: launch_training.py [options] train --data …")
        if not given.accelerate.exists():
            raise Mistake(f"--accelerate {given.accelerate}: no such file")
        group = machines(os.environ)
        processes = max(gpus(), 1) if given.processes is None else given.processes
        if processes < 1:
            raise Mistake(f"--processes {processes}: at least one is needed")
    except Mistake as mistake:
        print(f"launch_training: {mistake}", file=sys.stderr)
        return USAGE
    environment = training_environment(os.environ, given.grace)
    if group.rank == 0:
        code = child.run([sys.executable, str(given.program), *given.arguments, "--dry-run"], environment)
        if code:
            return code
    command = training_command(
        given.program, given.arguments, group=group, processes=processes, accelerate=given.accelerate
    )
    print(f"launch_training: machine {group.rank} of {group.count}, {processes} processes", file=sys.stderr, flush=True)
    return child.run(command, environment)


if __name__ == "__main__":
    sys.exit(main())
