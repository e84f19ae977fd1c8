"""Where the settings of runs were until version 0.2."""

from setar.moved import moved

__getattr__ = moved(
    __name__,
    {
        "make_run": "setar.training.run",
        "read_run": "setar.training.run",
        "check_settings": "setar.training.run",
        "DataConfig": "setar.training.data",
        "ModelConfig": "setar.training.generator",
        "GeneratorRun": "setar.training.generator",
        "TokenizerRun": "setar.training.tokenizer",
    },
)
