"""Trees as corpora come, with short tones or silence for speech."""

import collections
import gzip
import itertools
import os

import numpy as np
import soundfile


def save_tone(path):
    """A tenth of a second of 1 kHz, stereo at 48 kHz, as RAVDESS has some. Returns its path."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4800) / 48000)
    soundfile.write(str(path), np.stack([tone, tone], 1), 48000, subtype="PCM_16")
    return str(path)


def plant(sound, root, names):
    """The recording under many names."""
    for name in names:
        path = os.path.join(str(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.link(sound, path)


def ravdess():
    for actor, emotion in itertools.product(range(1, 25), range(1, 9)):
        for intensity in ("01",) if emotion == 1 else ("01", "02"):
            for statement, take in itertools.product(("01", "02"), repeat=2):
                code = f"03-01-{emotion:02d}-{intensity}-{statement}-{take}-{actor:02d}"
                yield f"Actor_{actor:02d}/{code}.wav"


# A tenth of what IEMOCAP holds of each label; others are left out.
IEMOCAP = {"ang": 110, "hap": 60, "exc": 104, "sad": 108, "neu": 171, "fru": 40, "xxx": 20}


def iemocap(root, sound):
    """The tree of IEMOCAP_full_release: turns dealt to dialogues of both speakers."""
    labels = [label for label, count in IEMOCAP.items() for _ in range(count)]
    np.random.default_rng(0).shuffle(labels)
    dialogues = [
        f"Ses0{session}{side}_{kind}"
        for session in range(1, 6)
        for side in "FM"
        for kind in ("impro01", "impro05a", "script01_1", "script02_2")
    ]
    turns = collections.defaultdict(list)
    for index, label in enumerate(labels):
        name = dialogues[index % len(dialogues)]
        number = "XX0" if index < len(dialogues) else f"{index:04d}"
        turns[name].append((f"{name}_{'FM'[index // len(dialogues) % 2]}{number}", label))
    for name, rows in turns.items():
        session = f"Session{name[4]}"
        plant(sound, root, (f"{session}/sentences/wav/{name}/{turn}.wav" for turn, _ in rows))
        folder = root / session / "dialog" / "EmoEvaluation"
        folder.mkdir(parents=True, exist_ok=True)
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for turn, label in rows:
            text += f"[6.2901 - 8.2357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]\n"
            text += "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        (folder / f"{name}.txt").write_text(text)
        (folder / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07")  # what macOS leaves


def asterisk(root, language, count=20, seconds=0.5):
    """The layout of the packages of a language (`corpora.asterisk.LANGUAGES`): 8 kHz prompts,
    some of them unusable."""
    lines = ["; comment", "beep: beep", "silence/1: one second", "x: [sound]", "lost: Not there."]
    sounds = root / language.sounds
    sounds.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        lines.append(f"vm-{index}: Message number {index}.")
        wave = rng.normal(0, 0.1, int(8000 * seconds))
        soundfile.write(str(sounds / f"vm-{index}.wav"), wave, 8000, subtype="PCM_16")
    text = root / language.transcripts
    text.parent.mkdir(parents=True)
    with gzip.open(str(text), "wt") as file:
        file.write("\n".join(lines))


WORDS = ["THE", "QUICK", "BROWN", "FOX", "ISN'T", "LAZY", "DOG", "JUMPS", "OVER", "VEX", "MP", "G"]


def librispeech(root, splits, speakers=(19, 103, 26)):
    """LibriSpeech's folders of some splits."""
    for split in splits:
        for speaker in speakers:
            chapter(root / split, speaker, speaker * 10)
            chapter(root / split, speaker, speaker * 10 + 7)
    (root / "SPEAKERS.TXT").write_text("19 | F | ..")


def chapter(folder, speaker, number, count=5):
    """A chapter of LibriSpeech: flac files of noise, and their transcripts."""
    rng = np.random.default_rng(number)
    path = os.path.join(str(folder), str(speaker), str(number))
    os.makedirs(path)
    with open(os.path.join(path, f"{speaker}-{number}.trans.txt"), "w") as lines:
        for index in range(count):
            name = f"{speaker}-{number}-{index:04d}"
            wave = rng.normal(0, 0.1, int(rng.integers(8000, 12000)))
            soundfile.write(os.path.join(path, f"{name}.flac"), wave, 16000)
            lines.write(f"{name} {' '.join(rng.choice(WORDS, rng.integers(1, 9)))}\n")
