"""What is done to a training, one function each, and what may come of it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture_crew import Crew, Ended, Started, differing, outcome

EQUAL, REFUSED, DIFFERENT, BROKEN = "equal", "refused", "different", "broken"
NOTHING_THERE = ("is not a complete run", "There is nothing at")
FOREVER = 10**9
YEAR = 365 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A training in small, with something in it that a resume could get wrong."""

    name: str
    words: tuple[str, ...]
    """Of `sartor fit`."""
    reported: bool = False


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a mixture comes to when nothing happens."""

    outcome: Mapping[str, Any]
    seconds: float
    touches: int
    """How often it changes something in its folder."""


@dataclass(kw_only=True)
class Trial:
    """One run, and what happens to it."""

    crew: Crew
    mixture: Mixture
    expected: Undisturbed
    out: Path
    rng: random.Random
    notes: list[str] = field(default_factory=list)

    @property
    def fit_words(self) -> list[object]:
        return fit_words(self.mixture, self.out)

    @property
    def resume_words(self) -> list[object]:
        return ["resume", self.out, "--json", "--quiet"]

    def fault(self, what: str, at: int = 1, **more: Any) -> dict[str, Any]:
        """A fault below the run's folder."""
        self.notes.append(f"{what} at touch {at} {more or ''}".strip())
        return {"folder": str(self.out), "what": what, "at": at, **more}

    def some_touch(self) -> int:
        return self.rng.randint(1, self.expected.touches)

    def some_moment(self) -> float:
        """Seconds after the start, at which something is still going on; mostly."""
        return self.rng.uniform(0, 1.1 * self.expected.seconds)

    def wait_a_moment(self) -> None:
        seconds = self.some_moment()
        self.notes.append(f"after {seconds:.3f} s")
        time.sleep(seconds)


@dataclass(frozen=True)
class Verdict:
    """What came of a trial."""

    what: str
    because: str = ""


class BrokenError(Exception):
    """A process ended as none should."""


def fit_words(mixture: Mixture, out: Path) -> list[object]:
    more = () if mixture.reported else ("--no-report",)
    return ["fit", *mixture.words, *more, "--out", out, "--json", "--quiet"]


def checked(ended: Ended) -> Ended:
    """Raise where it is broken."""
    if ended.is_broken:
        raise BrokenError(f"exit {ended.code}: {ended.err.strip()[-600:]}")
    return ended


def finished(trial: Trial, *, may_refuse: bool = False) -> Verdict:
    """Resume the run, until it is over, and compare it; where it cannot be, train it again."""
    ended = checked(trial.crew.run(trial.resume_words))
    if ended.code == 0:
        return compared(trial, trial.out)
    if not ended.is_sentence:
        return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-600:]}")
    again = trial.out
    if not any(words in ended.err for words in NOTHING_THERE):
        if not may_refuse:
            return Verdict(BROKEN, f"refused: {ended.err.strip()}")
        trial.notes.append(ended.err.strip().splitlines()[-2])
        again = trial.out.with_name(f"{trial.out.name}-again")
    elif may_refuse and trial.out.exists():
        again = trial.out.with_name(f"{trial.out.name}-again")
    # The same command once more must do: what was left must not be in its way.
    ended = checked(trial.crew.run(fit_words(trial.mixture, again)))
    if ended.code != 0:
        return Verdict(BROKEN, f"cannot be trained again: {ended.err.strip()}")
    verdict = compared(trial, again)
    return Verdict(REFUSED) if verdict.what == EQUAL and again != trial.out else verdict


def compared(trial: Trial, path: Path) -> Verdict:
    found = outcome(path)
    names = differing(found, trial.expected.outcome)
    if names:
        name = names[0]
        shown = f"{str(found.get(name))[:200]} (was {str(trial.expected.outcome[name])[:200]})"
        return Verdict(DIFFERENT, f"{', '.join(names)}: {shown}")
    return Verdict(EQUAL)


def of_the_shell(trial: Trial, words: Sequence[object]) -> tuple[list[str], dict[str, str]]:
    """The command line and the variables of a process of its own."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "SARTOR_HOME": str(trial.crew.home)}
    return [sys.executable, "-m", "sartor", *map(str, words)], variables


# What is done, by name.


def killed(trial: Trial) -> Verdict:
    """Up to four times, at any moment."""
    words = trial.fit_words
    for _ in range(trial.rng.randint(1, 4)):
        started = trial.crew.begin(words)
        trial.wait_a_moment()
        started.send(signal.SIGKILL)
        checked(started.wait())
        words = trial.resume_words
        if not (trial.out / "recipe.toml").exists():
            words = trial.fit_words
    return finished(trial)


def killed_in_the_shell(trial: Trial) -> Verdict:
    """As `killed`, but processes of their own, as a shell starts them."""
    words, variables = of_the_shell(trial, trial.fit_words)
    process = subprocess.Popen(
        words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 60
    while not (trial.out / "checkpoints").exists() and process.poll() is None:
        if time.monotonic() > give_up:
            break
        time.sleep(0.005)
    trial.wait_a_moment()
    process.kill()
    _, err = process.communicate()
    checked(Ended(process.returncode, "", err))
    return finished(trial)


def asked_to_stop(number: signal.Signals) -> Callable[[Trial], Verdict]:
    def stopped(trial: Trial) -> Verdict:
        started = trial.crew.begin(trial.fit_words)
        trial.wait_a_moment()
        started.send(number)
        ended = checked(started.wait())
        # Beside the loop, the system or Python itself ends the process.
        if ended.code not in (0, 128 + number, -number):
            return Verdict(BROKEN, f"exit {ended.code} after {number.name}: {ended.err[-300:]}")
        return finished(trial)

    return stopped


def paused(trial: Trial) -> Verdict:
    """SIGSTOP and SIGCONT, three times; it must come out by itself."""
    started = trial.crew.begin(trial.fit_words)
    for _ in range(3):
        time.sleep(trial.some_moment() / 3)
        started.send(signal.SIGSTOP)
        time.sleep(trial.rng.uniform(0, 0.3))
        started.send(signal.SIGCONT)
    return by_itself(trial, started)


def by_itself(trial: Trial, started: Started) -> Verdict:
    """It must end well, without a resume."""
    ended = checked(started.wait())
    if ended.code != 0:
        return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-400:]}")
    return compared(trial, trial.out)


def killed_at_a_touch(what: str) -> Callable[[Trial], Verdict]:
    def at_a_touch(trial: Trial) -> Verdict:
        checked(trial.crew.run(trial.fit_words, trial.fault(what, trial.some_touch())))
        return finished(trial)

    return at_a_touch


def killed_again_and_again(trial: Trial) -> Verdict:
    """Each life is a little longer than the one before, until it is enough."""
    checked(trial.crew.run(trial.fit_words, trial.fault("kill", trial.some_touch())))
    touches = trial.rng.randint(3, 12)
    while (trial.out / "recipe.toml").exists():
        what = trial.rng.choice(("kill", "half"))
        ended = checked(trial.crew.run(trial.resume_words, trial.fault(what, touches)))
        if ended.code == 0:
            return compared(trial, trial.out)
        touches += trial.rng.randint(1, max(2, trial.expected.touches // 8))
    return finished(trial)


def refused(error: int, *, for_good: bool) -> Callable[[Trial], Verdict]:
    """The disk answers so, once or from then on; what is said must name the file and the reason."""

    def failing(trial: Trial) -> Verdict:
        fault = trial.fault(
            "fail", trial.some_touch(), error=error, count=FOREVER if for_good else 1
        )
        words = trial.fit_words
        if trial.rng.random() < 0.5:
            # It was killed before, and meets the fault when it is resumed.
            checked(trial.crew.run(words, trial.fault("kill", trial.some_touch())))
            if (trial.out / "recipe.toml").exists():
                words, fault["at"] = trial.resume_words, trial.rng.randint(1, 40)
        ended = checked(trial.crew.run(words, fault))
        if ended.code not in (0, 1) or (ended.code == 1 and not ended.is_sentence):
            return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-400:]}")
        return finished(trial)

    return failing


def cut_short(trial: Trial) -> Verdict:
    """Every write takes only half of what it is given."""
    fault = trial.fault("short", 1, count=FOREVER)
    return by_itself(trial, trial.crew.begin(trial.fit_words, fault))


def clock_set(trial: Trial) -> Verdict:
    """The clock is set, by years or by a second, while it trains and again while it is resumed."""
    for words in (trial.fit_words, trial.resume_words):
        jump = trial.rng.choice((-20, -1, 1, 20)) * trial.rng.choice((1, 3600, YEAR))
        fault = trial.fault("jump", trial.some_touch(), count=FOREVER, jump=jump)
        started = trial.crew.begin(words, fault)
        if words == trial.resume_words:
            return by_itself(trial, started)
        trial.wait_a_moment()
        started.send(signal.SIGKILL)
        checked(started.wait())
        if not (trial.out / "recipe.toml").exists():
            break
    return finished(trial)


def damaged(how: Callable[[Path, random.Random], None]) -> Callable[[Trial], Verdict]:
    """One of its files is damaged while it does not run."""

    def after_damage(trial: Trial) -> Verdict:
        checked(trial.crew.run(trial.fit_words, trial.fault("kill", trial.some_touch())))
        known = sorted(one for one in trial.out.rglob("*") if one.is_file())
        if known:
            path = trial.rng.choice(known)
            trial.notes.append(str(path.relative_to(trial.out)))
            how(path, trial.rng)
        return finished(trial, may_refuse=True)

    return after_damage


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randint(0, max(0, len(content) - 1))])


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def zero(path: Path, rng: random.Random) -> None:
    """What some file systems leave of a file after a power failure."""
    size = path.stat().st_size
    begin = rng.randint(0, size)
    path.write_bytes(path.read_bytes()[:begin] + bytes(size - begin))


def delete(path: Path, _rng: random.Random) -> None:
    path.unlink()


def moved(trial: Trial) -> Verdict:
    """Its folder is renamed or moved while it trains; then perhaps it is killed."""
    started = trial.crew.begin(trial.fit_words)
    trial.wait_a_moment()
    new = trial.out.with_name("moved") / "elsewhere"
    new.parent.mkdir()
    if (trial.out / "recipe.toml").exists():
        trial.out.rename(new)
        before, trial.out = trial.out, new
        if trial.rng.random() < 0.5:
            time.sleep(trial.some_moment())
            started.send(signal.SIGKILL)
        ended = checked(started.wait())
        if before.exists():
            left = sorted(str(one.relative_to(before)) for one in before.rglob("*"))
            return Verdict(BROKEN, f"made again at its old place: {left}")
        # In its first moments and when it makes its report it knows only the name.
        if ended.code not in (0, 1, -signal.SIGKILL) or (ended.code == 1 and not ended.is_sentence):
            return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-400:]}")
    else:
        checked(started.wait())
    return finished(trial)


def twice_at_once(trial: Trial) -> Verdict:
    """A second process wants the run while the first trains it, which is then killed."""
    started = trial.crew.begin(trial.fit_words)
    give_up = time.monotonic() + 30
    while not (trial.out / "checkpoints" / "last.safetensors").exists():
        if time.monotonic() > give_up:
            break
        time.sleep(0.001)
    started.send(signal.SIGSTOP)
    # The crew has one process at a time.
    words, variables = of_the_shell(trial, trial.resume_words)
    second = subprocess.run(words, env=variables, capture_output=True, text=True)
    ended = checked(Ended(second.returncode, second.stdout, second.stderr))
    is_over = f"Another process is training {trial.out}." not in ended.err
    if not is_over and f"process {started.process} " not in ended.err:
        started.send(signal.SIGCONT)
        started.send(signal.SIGKILL)
        started.wait()
        return Verdict(BROKEN, f"does not say who holds it: {ended.err}")
    started.send(signal.SIGCONT)
    trial.wait_a_moment()
    started.send(signal.SIGKILL)
    first = checked(started.wait())
    if is_over and first.code != 0 and ended.code == 0:
        return Verdict(BROKEN, f"two trained it at once: {ended.err}")
    return finished(trial)


def unheard(stream: str, way: str) -> Callable[[Trial], Verdict]:
    """Nobody can hear what it says; it trains all the same."""

    def unheard_by(trial: Trial) -> Verdict:
        words = [word for word in trial.fit_words if word != "--quiet"]
        ended = checked(trial.crew.begin(words, None, **{stream: way}).wait())
        if ended.code not in (0, 1):
            return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-300:]}")
        return compared(trial, trial.out)

    return unheard_by


def read_only(trial: Trial) -> Verdict:
    """Resumed where nothing can be written: it says so, and nothing is lost."""
    checked(trial.crew.run(trial.fit_words, trial.fault("kill", trial.some_touch())))
    fault = trial.fault("fail", 1, error=errno.EROFS, count=FOREVER)
    ended = checked(trial.crew.run(trial.resume_words, fault))
    if ended.code == 0 or not ended.is_sentence:
        return Verdict(BROKEN, f"exit {ended.code}: {ended.err.strip()[-300:]}")
    return finished(trial)


KINDS: Mapping[str, Callable[[Trial], Verdict]] = {
    "SIGKILL at random moments": killed,
    "SIGKILL of a process of the shell": killed_in_the_shell,
    "SIGKILL before a change of the folder": killed_at_a_touch("kill"),
    "SIGKILL halfway through a write": killed_at_a_touch("half"),
    "SIGKILL again and again": killed_again_and_again,
    "SIGTERM": asked_to_stop(signal.SIGTERM),
    "SIGHUP": asked_to_stop(signal.SIGHUP),
    "SIGINT": asked_to_stop(signal.SIGINT),
    "SIGSTOP and SIGCONT": paused,
    "no space left, once": refused(errno.ENOSPC, for_good=False),
    "no space left, from then on": refused(errno.ENOSPC, for_good=True),
    "input/output error, once": refused(errno.EIO, for_good=False),
    "input/output error, from then on": refused(errno.EIO, for_good=True),
    "quota used up": refused(errno.EDQUOT, for_good=True),
    "read-only from then on": refused(errno.EROFS, for_good=True),
    "resumed in a read-only folder": read_only,
    "every write cut short": cut_short,
    "clock set by seconds to years": clock_set,
    "a file truncated": damaged(truncate),
    "a bit of a file flipped": damaged(flip),
    "the end of a file zeroed": damaged(zero),
    "a file deleted": damaged(delete),
    "folder moved": moved,
    "two processes on one run": twice_at_once,
    "stdout closed": unheard("out", "closed"),
    "stdout full": unheard("out", "full"),
    "stdout a pipe that nobody reads": unheard("out", "pipe"),
    "stderr a pipe that nobody reads": unheard("err", "pipe"),
}


def tried(trial: Trial, kind: str) -> Verdict:
    """One kind of trouble; whatever is broken is a verdict, too."""
    try:
        verdict = KINDS[kind](trial)
    except BrokenError as error:
        verdict = Verdict(BROKEN, str(error))
    except Exception as error:  # of the comparison: the run cannot be opened
        verdict = Verdict(BROKEN, f"{type(error).__name__}: {error}")
    if verdict.what in (EQUAL, REFUSED):
        for path in trial.out.parent.parent.glob(f"{trial.out.parent.name}*"):
            shutil.rmtree(path, ignore_errors=True)
    return verdict


def names_like(words: Sequence[str]) -> list[str]:
    """The kinds whose names hold one of the words; all where there is none."""
    return [name for name in KINDS if not words or any(word in name for word in words)]
