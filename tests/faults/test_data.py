"""The campaign, data: every way a split can be wrong is said before training begins."""

import os
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from build import build_model, setup_classification, setup_task
from conftest import write_labelled_corpus
from faulty import edit, read, write

from varan_fairseq.data import audio_files
from varan_fairseq.data.checks import file_findings, label_findings
from varan_fairseq.data.findings import Frames, Split, SplitFiles, enforce, split_files
from varan_fairseq.data.length_checks import mask_findings
from varan_fairseq.data.manifest import read_manifest

BOM = b"\xef\xbb\xbf"


def audio(samples, rate=16000, value=0.0, subtype="PCM_16"):
    """Replaces train2.wav, in a folder of its own, and says so in the manifest."""

    def change(folder):
        wave = np.full(samples, value, dtype=np.float32)
        path = os.path.join(folder, "wav", "train2.wav")
        soundfile.write(path, wave, rate, subtype=subtype)
        local(folder)
        rows = read(os.path.join(folder, "train.tsv")).split("\n")
        rows[3] = f"train2.wav\t{samples}"
        write(os.path.join(folder, "train.tsv"), "\n".join(rows))

    return change


def local(folder):
    """The manifest names the copied audio."""
    for split in ("train", "valid"):
        rows = read(os.path.join(folder, f"{split}.tsv")).split("\n")
        rows[0] = os.path.join(folder, "wav")
        write(os.path.join(folder, f"{split}.tsv"), "\n".join(rows))


def file(name, content):
    """Writes a file of the folder, or changes its text."""

    def change(folder):
        path = os.path.join(folder, name)
        if callable(content):
            edit(path, content)
        else:
            write(path, content)

    return change


def head(name, start):
    def change(folder):
        with open(os.path.join(folder, name), "rb") as opened:
            content = opened.read()
        write(os.path.join(folder, name), start + content)

    return change


def entry(name, root="wav"):
    """The third file of the manifest is another."""

    def change(folder):
        local(folder)
        path = os.path.join(folder, "train.tsv")
        rows = read(path).split("\n")
        if root == ".":
            rows = [folder, *(f"wav/{row}" for row in rows[1:-1]), ""]
        rows[3] = f"{name}\t9000"
        write(path, "\n".join(rows))

    return change


def gone(name):
    return lambda folder: os.remove(os.path.join(folder, name))


def instead_of_audio(make):
    def change(folder):
        path = os.path.join(folder, "wav", "train2.wav")
        os.remove(path)
        make(path)
        local(folder)

    return change


def second_is_longer(text):
    return text.replace("train2.wav\t9000", "train2.wav\t9001")


def words(text):
    return "ONE TWO SIX\n" * 6


CTC = {
    # the dictionary
    "no dictionary": (gone("dict.ltr.txt"), "no dictionary .*dict.ltr.txt"),
    "empty dictionary": (file("dict.ltr.txt", ""), "dict.ltr.txt is empty"),
    "dictionary with a BOM": (head("dict.ltr.txt", BOM), "dict.ltr.txt begins with a byte order"),
    "symbol twice": (
        file("dict.ltr.txt", lambda text: text + "O 3\n"),
        r"dict.ltr.txt, line \d+: 'O 3': symbol 'O' is there already",
    ),
    "fairseq's symbol": (
        file("dict.ltr.txt", lambda text: text + "<s> 3\n"),
        r"'<s> 3': symbol '<s>' is fairseq's own",
    ),
    "symbol without a count": (file("dict.ltr.txt", "A\n"), "line 1: 'A', expected symbol count"),
    "count that is none": (file("dict.ltr.txt", "A b\n"), "line 1: 'A b', expected symbol count"),
    "dictionary in Latin-1": (
        file("dict.ltr.txt", b"A 1\n\xc4 2\n"),
        "dict.ltr.txt, line 2: byte 0xc4 is not UTF-8",
    ),
    # labels
    "no labels": (gone("train.ltr"), "no label file .*train.ltr"),
    "labels with a BOM": (head("train.ltr", BOM), "train.ltr begins with a byte order mark"),
    "lower case": (file("train.ltr", str.lower), r"not in the dictionary, the first in line 1: '"),
    "words for letters": (file("train.ltr", words), "18 of 18 labels .100%. are not in the dict"),
    "accents": (
        file("train.ltr", lambda text: text.replace("O", "Ó")),
        "the first in line 1: 'Ó'; it has | ",
    ),
    "blank as a label": (
        file("train.ltr", lambda text: text.replace("|", "<s>")),
        "are not in the dictionary, the first in line 1: '<s>'",
    ),
    "unknown as a label": (
        file("train.ltr", lambda text: text.replace("|", "<unk>")),
        "are not in the dictionary, the first in line 1: '<unk>'",
    ),
    "labels in Latin-1": (file("train.ltr", b"O N E |\n" * 5 + b"\xd6 |\n"), "line 6: byte 0xd6"),
    "a line too few": (file("train.ltr", "O N E |\n"), "has 1 lines, .* names 6 audio files"),
    "a line too many": (file("train.ltr", "O N E |\n" * 7), "has 7 lines, .* names 6"),
    "no label anywhere": (file("train.ltr", "\n" * 6), "train.ltr has no labels in any line"),
    "unknown in validation": (file("valid.ltr", str.lower), "valid.ltr: .* not in the dictionary"),
    # the manifest
    "no manifest": (gone("train.tsv"), "no manifest .*train.tsv"),
    "empty manifest": (file("train.tsv", ""), "train.tsv is empty"),
    "manifest without files": (file("train.tsv", "/x\n"), "train.tsv is empty: .*'/x'"),
    "manifest with a BOM": (head("train.tsv", BOM), "train.tsv begins with a byte order mark"),
    "three fields": (
        file("train.tsv", "/x\na.wav\t1\t2\n"),
        "line 2: 'a.wav.t1.t2', expected path<TAB>number of samples",
    ),
    "no number": (file("train.tsv", "/x\na.wav\tlong\n"), "line 2: 'a.wav.tlong', expected path"),
    "negative number": (file("train.tsv", "/x\na.wav\t-5\n"), "line 2: 'a.wav.t-5', expected"),
    "superscript number": (file("train.tsv", "/x\na.wav\t²\n"), "line 2: 'a.wav.t²', expected"),
    "no name": (file("train.tsv", "/x\n\t5\n"), "line 2: '.t5', expected path"),
    "more samples than there are": (
        file("train.tsv", f"/x\na.wav\t{10**12}\n"),
        "line 2: 'a.wav.t1000000000000': no recording has so many samples",
    ),
    "a number that overflows": (
        file("train.tsv", f"/x\na.wav\t{2**63}\n"),
        "line 2: .* no recording has so many samples",
    ),
    "manifest in Latin-1": (file("train.tsv", b"/x\n\xe9.wav\t5\n"), "line 2: byte 0xe9"),
    # audio
    "no audio": (instead_of_audio(lambda path: None), "no audio file .*train2.wav"),
    "a folder for audio": (instead_of_audio(os.mkdir), "train2.wav is not a regular file"),
    "a pipe for audio": (instead_of_audio(os.mkfifo), "train2.wav is not a regular file"),
    "empty audio file": (
        instead_of_audio(lambda path: write(path, b"")),
        "train2.wav cannot be read",
    ),
    "text for audio": (
        instead_of_audio(lambda path: write(path, "no audio" * 99)),
        "train2.wav cannot be read",
    ),
    "other sample rate": (audio(9000, rate=8000), "sample rate of 8000 Hz, expected 16000 Hz"),
    "other length": (
        lambda folder: (audio(9000)(folder), file("train.tsv", second_is_longer)(folder)),
        "train2.wav has 9000 samples, the manifest says 9001",
    ),
    "NaN": (audio(9000, value=np.nan, subtype="FLOAT"), "train2.wav has 9000 samples that are NaN"),
    "infinity": (audio(9000, value=np.inf, subtype="DOUBLE"), "9000 samples that are NaN or inf"),
    "a recording's name with colons, gone": (
        entry("12:30:05.wav"),
        "no audio file .*12:30:05.wav",
    ),
    "bytes of an archive that is gone": (entry("a.zip:0:400"), "no audio file .*a.zip$"),
    "samples for bytes": (
        entry("wav/train1.wav:100:9000", "."),
        "bytes 100 .. 9100 of .*wav/train1.wav are not WAV, FLAC or Ogg: expected archive.zip:",
    ),
    "no bytes of an archive": (entry("wav/train1.wav:0:0", "."), "bytes 0 .. 0 of .* are not WAV"),
    "0 samples": (audio(0), "train2.wav has no samples"),
    "1 sample": (audio(1), "line 4: train2.wav has 1 samples, the encoder needs 400"),
    "399 samples": (audio(399), "line 4: train2.wav has 399 samples, the encoder needs 400"),
    "400 samples": (audio(400), "may mask all 1 frames of train2.wav .*task.min_sample_size=401"),
    "12 frames": (audio(4000), "may mask all 12 frames of train2.wav .400[0] samples.* .1 such"),
}


@pytest.mark.parametrize("name", CTC)
def test_ctc(folder, wav2vec2, name):
    change, expected = CTC[name]
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as raised:
        # a missing checkpoint says that the data came first; the rest needs the encoder
        needs_encoder = "encoder needs" in expected or "may mask" in expected
        base = wav2vec2 if needs_encoder else "gone.pt"
        build_model(base, setup_task(folder), check_audio=True, apply_mask=True, mask_prob=0.65)
    assert folder in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"max_unknown_labels": 2.0}, "model.max_unknown_labels=2.0: expected a share"),
        ({"max_unknown_labels": float("nan")}, "model.max_unknown_labels=nan: expected a share"),
        ({"blank_mode": "sub"}, "model.blank_mode=sub: choose add or set"),
    ],
)
def test_ctc_options(corpus, wav2vec2, options, expected):
    with pytest.raises(ValueError, match=expected):
        build_model(wav2vec2, setup_task(corpus), check_audio=True, **options)


def test_few_unknown_labels_are_said_and_let_through(folder, wav2vec2, caplog):
    edit(os.path.join(folder, "train.ltr"), lambda text: text.replace("O", "Q", 1))
    task = setup_task(folder)
    with pytest.raises(ValueError, match="raise model.max_unknown_labels=0.01"):
        build_model(wav2vec2, task)
    build_model(wav2vec2, task, max_unknown_labels=0.05)
    assert "train.ltr: 1 of 48 labels" in caplog.text and "they become <unk>" in caplog.text


def test_short_files_can_be_left_out(folder, wav2vec2, caplog):
    audio(399)(folder)
    build_model(wav2vec2, setup_task(folder, min_sample_size=400), check_audio=True)
    assert "1 of 6 files have less than task.min_sample_size=400 samples" in caplog.text


def stored(folder, wave, name="in.wav"):
    """A stored ZIP of one file: what a manifest calls it."""
    path = os.path.join(folder, "audio.zip")
    soundfile.write(os.path.join(folder, name), wave, 16000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(os.path.join(folder, name), name)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    start = info.header_offset + 30 + len(name)
    return f"{path}:{start}:{info.file_size}"


def test_audio_inside_of_an_archive_is_checked(folder, wav2vec2, caplog):
    caplog.set_level("INFO")
    entry(stored(folder, np.full(9000, 0.1)))(folder)
    task = setup_task(folder)
    build_model(wav2vec2, task, check_audio=True)
    assert "train.tsv: checked 6 audio files" in caplog.text
    task.load_dataset("train")
    assert len(task.dataset("train")[2]["source"]) == 9000  # as fairseq reads it
    stored(folder, np.full(8000, 0.1))  # replaced
    with pytest.raises(ValueError, match="audio.zip:.* has 8000 samples, the manifest says 9000"):
        build_model(wav2vec2, task, check_audio=True)


def test_names_with_colons_are_files(folder, wav2vec2):
    """As fairseq reads them: what ends in .wav is not a part of an archive."""
    audio(9000)(folder)
    os.rename(os.path.join(folder, "wav", "train2.wav"), os.path.join(folder, "wav", "12:30.wav"))
    entry("12:30.wav")(folder)
    build_model(wav2vec2, setup_task(folder), check_audio=True)
    soundfile.write(os.path.join(folder, "wav", "12:30.wav"), np.zeros(8000), 16000)
    with pytest.raises(ValueError, match="12:30.wav has 8000 samples, the manifest says 9000"):
        build_model(wav2vec2, setup_task(folder), check_audio=True)


def test_a_sample_rate_of_none(folder):
    with pytest.raises(ValueError, match="task.sample_rate=0: expected that of the encoder"):
        build_model("gone.pt", setup_task(folder, sample_rate=0))


def test_labels_without_a_mark_between_words(folder):
    """A warning, in training as in a check: the whole line is one word."""
    edit(os.path.join(folder, "train.ltr"), lambda text: text.replace(" |", ""))
    split = Split("train", split_files(setup_task(folder).cfg, "train"))
    enforce(file_findings(split))
    found = {finding.kind for finding in label_findings(split, None, post_process="letter")}
    assert found == {"boundary"}
    assert not list(label_findings(split, None, post_process="none"))


def test_masking_is_checked_where_it_happens(folder, wav2vec2):
    audio(4000)(folder)
    for options in (dict(apply_mask=False), dict(mask_length=2), dict(mask_prob=0.0)):
        build_model(wav2vec2, setup_task(folder), **{"apply_mask": True, **options})


def test_checking_the_masking_leaves_trainings_random_numbers_alone(folder):
    cfg = SimpleNamespace(
        apply_mask=True, mask_prob=0.65, mask_length=10, mask_selection="static", mask_other=0.0,
        no_mask_overlap=False, mask_min_space=1,
    )  # fmt: skip
    path = os.path.join(folder, "train.tsv")
    split = Split("train", SplitFiles("train.tsv", "", ""), read_manifest(path))

    def check(frames):
        enforce(mask_findings(split, Frames(400, lambda samples: [frames] * 6), cfg))

    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    check(30)
    assert np.random.rand() == expected
    with pytest.raises(ValueError, match="may mask all 11 frames of train0.wav .* .6 such files"):
        check(11)


def test_audio_is_not_read_again_unless_something_changed(folder, wav2vec2, caplog):
    local(folder)
    task, path = setup_task(folder), os.path.join(folder, "wav", "train2.wav")

    def said():
        caplog.clear()
        build_model(wav2vec2, task, check_audio=True)
        return caplog.text

    assert "train.tsv: checked 6 audio files" in said()
    assert "train.tsv: audio unchanged since it was checked" in said()
    os.utime(path)
    assert "train.tsv: checked 6 audio files" in said()
    os.remove(path)
    with pytest.raises(ValueError, match="no audio file .*train2.wav"):
        said()


def test_of_many_float_files_some_are_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(audio_files, "MOST_FLOATS", 3)
    rows = [str(tmp_path)]
    for index in range(8):
        wave = np.zeros(500, dtype=np.float32)
        soundfile.write(str(tmp_path / f"{index}.wav"), wave, 16000, subtype="FLOAT")
        rows.append(f"{index}.wav\t500")
    write(tmp_path / "train.tsv", "\n".join(rows) + "\n")
    path = str(tmp_path / "train.tsv")
    caplog.set_level("INFO")
    assert audio_files.header_problems(path, read_manifest(path), 16000) == []
    assert "the samples of 3 of 8 float files" in caplog.text


EMOTION = {
    "one class": (file("dict.emo.txt", "ang 3\n"), "dict.emo.txt has 1 labels, expected 2 or more"),
    "class twice": (file("dict.emo.txt", "a 1\na 2\n"), "line 2: label 'a' is there already"),
    "a formula as a class": (file("dict.emo.txt", "=1+1 2\nb 1\n"), "'=1.1' begins with ="),
    "class without a count": (file("dict.emo.txt", "ang\n"), "line 1: 'ang', expected label count"),
    "no class file": (gone("dict.emo.txt"), "no dictionary .*dict.emo.txt"),
    "unknown class": (
        file("train.emo", lambda text: text.replace("hap", "joy")),
        "train.emo, line 2: unknown label 'joy', expected one of ang, hap, sad",
    ),
    "classes in Latin-1": (file("train.emo", b"ang\n" * 5 + b"\xe9\n"), "line 6: byte 0xe9"),
    "speakers too few": (
        lambda folder: (file("train.spk", "a\n")(folder), file("valid.spk", "b\n" * 6)(folder)),
        "train.spk has 1 lines, its manifest names 6",
    ),
    "speaker on both sides": (
        lambda folder: [file(f"{s}.spk", "a\n" * 6)(folder) for s in ("train", "valid")],
        "speaker a is in train and in valid",
    ),
    "audio gone": (
        lambda folder: os.remove(os.path.join(folder, "wav", "train2.wav")),
        "1 of 6 audio files cannot be read .16.7%, task.max_unreadable=0.01",
    ),
}


@pytest.mark.parametrize("name", EMOTION)
def test_emotion(tmp_path, name):
    change, expected = EMOTION[name]
    data = write_labelled_corpus(tmp_path / "data")
    change(data)
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        build_model("gone.pt", setup_classification(data), "varan_classification")


def test_emotion_options(tmp_path):
    for value in (2.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="task.max_unreadable=.*: expected a share, 0 .. 1"):
            setup_classification(str(tmp_path), max_unreadable=value)


def test_byte_order_marks_that_only_we_read(tmp_path, wav2vec2):
    data = write_labelled_corpus(tmp_path / "data")
    for name in ("train.tsv", "train.emo", "dict.emo.txt"):
        head(name, BOM)(data)
    task = setup_classification(data)
    build_model(wav2vec2, task, "varan_classification")
    task.load_dataset("train")
    dataset = task.dataset("train")
    assert len(dataset[0]["source"]) == dataset.sizes[0] and int(dataset[0]["label"]) == 0


def test_files_longer_than_max_tokens_are_left_out_of_training(tmp_path, wav2vec2, caplog):
    data = write_labelled_corpus(tmp_path / "data")
    task = setup_classification(data)
    task.check_splits("train", ["valid"])
    task.load_dataset("train")
    dataset = task.dataset("train")
    limit = int(np.sort(dataset.sizes)[3])
    batches = task.get_batch_iterator(
        dataset, max_tokens=limit, max_positions=(limit, limit), ignore_invalid_inputs=True
    ).next_epoch_itr(shuffle=False)
    assert sum(len(batch["id"]) for batch in batches) == 4
    assert "2 samples have invalid sizes and will be skipped" in caplog.text
