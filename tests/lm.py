"""Small language models for tests."""

import torch
from fairseq import tasks
from fairseq.data import Dictionary
from fairseq.dataclass.configs import CommonConfig, DatasetConfig
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf


def write_lm(folder, words):
    """An ARPA file, bigrams with all words alike, and a lexicon of letters: (lm, lexicon)."""
    unigrams = ["-1\t<unk>\t0", "-99\t<s>\t0", "-1\t</s>", *(f"-1\t{word}\t0" for word in words)]
    bigrams = [f"-0.5\t<s> {word}" for word in words]
    arpa = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", ""]
    arpa += ["\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]
    (folder / "lm.arpa").write_text("\n".join(arpa))
    (folder / "lexicon.txt").write_text("".join(f"{w}\t{' '.join(w)} |\n" for w in words))
    return str(folder / "lm.arpa"), str(folder / "lexicon.txt")


def save_neural_lm(folder, words):
    """A random-weight transformer of fairseq's, with its dictionary beside it; its path."""
    torch.manual_seed(0)
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    dictionary.finalize(padding_factor=1)
    dictionary.save(str(folder / "dict.txt"))
    task, model = TASK_DATACLASS_REGISTRY["language_modeling"], TransformerLanguageModelConfig
    small = {f"decoder_{name}_dim": 16 for name in ("embed", "output", "input", "ffn_embed")}
    small.update(decoder_layers=1, decoder_attention_heads=2, share_decoder_input_output_embed=True)
    whole = OmegaConf.create(
        {
            "common": OmegaConf.structured(CommonConfig),
            "dataset": OmegaConf.structured(DatasetConfig),
            "task": OmegaConf.merge(
                OmegaConf.structured(task), {"_name": "language_modeling", "data": str(folder)}
            ),
            "model": OmegaConf.merge(
                OmegaConf.structured(model), {"_name": "transformer_lm", **small}
            ),
        }
    )
    cfg = OmegaConf.to_container(whole, resolve=True, enum_to_str=True)
    setup = tasks.setup_task(OmegaConf.create(cfg["task"]))
    weights = setup.build_model(OmegaConf.create(cfg["model"])).state_dict()
    torch.save({"cfg": cfg, "args": None, "model": weights}, str(folder / "lm.pt"))
    return str(folder / "lm.pt")
