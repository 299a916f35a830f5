"""The job's configuration: one frozen, validated tree, complete before the graph is built.

Every field has a default, so an empty config is a valid job over an RGB-D manifest. A unit stands in a
name wherever it is not metres. `Field(description=…)` is what `--help` and the deployment templates show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the tree: frozen, and strict about names, so that a typing error is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputConfig(Section):
    """Where the rows come from and what their columns are called."""

    columns: dict[str, str] = Field({}, description="our column name → the manifest's, e.g. image_url: URL")
    carry_columns: tuple[str, ...] = Field((), description="manifest columns copied into scenes as they are")
    allow_local_files: bool = Field(False, description="allow file:// and paths outside the manifest's folder")


class FetchConfig(Section):
    """How pictures are read from the network."""

    concurrency: int = Field(32, ge=1, le=1024, description="requests under way at once in one worker")
    per_host: int = Field(8, ge=1, le=1024, description="requests under way at once with one host, in one worker")
    connect_timeout_s: float = Field(10.0, gt=0, description="seconds to connect")
    total_timeout_s: float = Field(30.0, gt=0, description="seconds for one try, redirects and body included")
    max_bytes: int = Field(50_000_000, ge=1, description="largest file read, bytes")
    max_bytes_held: int = Field(
        500_000_000, ge=1, description="bytes of files read and not yet passed on, in one worker; more waits for room"
    )
    max_redirects: int = Field(5, ge=0, description="redirects followed, each checked like the first address")
    retries: int = Field(3, ge=0, le=20, description="further tries after 429, 5xx, timeouts and broken connections")
    retry_wait_s: float = Field(0.5, ge=0, description="seconds before the first retry; doubles, with jitter, to 10")
    max_retry_wait_s: float = Field(
        60.0, ge=0, description="seconds waited between all tries of one file; a longer Retry-After ends them"
    )
    host_failures: int = Field(
        16, ge=0, description="failed connections in a row after which a host counts as down; 0: never"
    )
    host_pause_s: float = Field(60.0, gt=0, description="seconds until a host that is down is tried again, once")
    network_failures: int = Field(
        200, ge=0, description="failed connections in a row, to whatever hosts, after which the slice stops; 0: never"
    )
    stop_sample: int = Field(
        1_000,
        ge=0,
        description="rows of one worker among which max_failed may fail for reasons that may pass, before "
        "the slice stops; 0: it never does",
    )
    honour_opt_out: bool = Field(True, description="respect X-Robots-Tag noai/noimageai/noindex and tdm-reservation")
    contact: str = Field(
        "", pattern=r"^[\x20-\x7e]*$", description="address or URL put into the User-Agent, for the sites we read"
    )
    allow_private_hosts: tuple[str, ...] = Field((), description="host[:port] or networks exempt from the guard")


class DecodeConfig(Section):
    """Which files count as pictures."""

    max_pixels: int = Field(100_000_000, ge=1, description="largest picture, pixels; checked before decoding")
    max_side: int | None = Field(
        None,
        ge=64,
        description="pictures without depth and instances are scaled down to so many pixels on their longer side, "
        "their intrinsics with them; null: never",
    )
    truncated: Literal["refuse", "salvage"] = Field(
        "refuse", description="files that end early: refuse, or salvage what a JPEG still has (the rest is grey)"
    )


Precision = Literal["fp32", "fp16", "bf16"]


class ModelsConfig(Section):
    """Where learned experts find their weights, and what they run on."""

    folder: str | None = Field(
        None, description="folder, local or gs://, that `spatialvlm models pull` filled; searched for every hub id"
    )
    cache: str = Field(
        "~/.cache/spatialvlm/weights", description="folder on each machine for weights copied from a bucket or a hub"
    )
    offline: bool = Field(True, description="never ask a hub; false: workers may download what models.folder lacks")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="auto takes a GPU where there is one; cuda or cuda:N insists on it; cpu",
    )
    dtype: Precision = Field("fp32", description="precision of the forward pass; fp16 and bf16 by autocast")
    compile: bool = Field(False, description="torch.compile the models; pays on long runs with steady batch sizes")
    channels_last: bool = Field(False, description="channels-last memory, which suits convolutions on recent GPUs")
    resource_hints: dict[str, str] = Field(
        {},
        description="what a worker of a learned expert needs, in Beam's terms, e.g. "
        "{accelerator: 'type:nvidia-l4;count:1;install-nvidia-driver', min_ram: 16GB}",
    )


class DuplicatesConfig(Section):
    """Which rows count as repeating another, besides those with the same URL or id; the first in the manifest stays."""

    bytes: bool = Field(True, description="rows with the same picture, depth, instances, captions and camera")
    near_bits: int | None = Field(
        None,
        ge=0,
        le=16,
        description="rows that bring nothing but a picture, whose 64-bit difference hashes differ in at most so many "
        "bits; null: not looked for",
    )

    @property
    def any(self) -> bool:
        """Whether pictures are compared at all."""
        return self.bytes or self.near_bits is not None


class ExpertConfig(Section):
    """Which model plays a part, and how it is fed."""

    backend: str = Field(description="name in the registry of models")
    min_batch_size: int = Field(1, ge=1, description="pictures in a batch, wished for")
    max_batch_size: int = Field(16, ge=1, description="pictures in a batch, at most")
    options: dict[str, Any] = Field({}, description="the backend's own settings")
    weights: str | None = Field(
        None,
        description="hub id (org/name), local folder, gs:// folder or package:name/folder of an installed package; "
        "null: the backend's default",
    )
    revision: str | None = Field(None, description="commit of a hub id, 40 hex digits; null: the pulled one")
    device: str | None = Field(None, description="overrides models.device for this expert")
    dtype: Precision | None = Field(None, description="overrides models.dtype for this expert")
    copies: int | None = Field(
        None, ge=1, description="copies of the model that a machine's processes share; null: one in each process"
    )
    resource_hints: dict[str, str] | None = Field(None, description="overrides models.resource_hints for this expert")


class LiftConfig(Section):
    """From depth and masks to points, frames and boxes."""

    min_points: int = Field(50, ge=1, description="cleaned points that a region needs")
    min_depth: float = Field(0.3, ge=0, description="nearest depth that the maps are trusted at, metres")
    max_depth: float = Field(10.0, gt=0, description="farthest depth that the maps are trusted at, metres")
    max_size: float = Field(12.0, gt=0, description="longest side of a plausible object, metres")
    default_fov_deg: float | None = Field(
        55.0, gt=0, lt=180, description="horizontal field of view where nothing else is known; null: no_intrinsics"
    )
    min_ground_share: float = Field(
        0.005, gt=0, le=1, description="share of the picture that labelled ground needs to define the frame"
    )
    find_ground: bool = Field(True, description="without usable labels, look for the ground in the depth map")
    max_tilt_deg: float = Field(
        75.0, gt=0, le=90, description="largest angle of labelled ground's normal to the picture's upward direction"
    )
    max_tilt_unlabelled_deg: float = Field(
        50.0, gt=0, le=90, description="the same for ground found without labels, which a wall must not pass for"
    )
    max_gravity_error_deg: float = Field(
        15.0, gt=0, le=90, description="largest angle between the ground's normal and the manifest's gravity"
    )


class AmbiguityConfig(ExpertConfig):
    """When two captions mean the same thing, and what to do about it."""

    backend: str = Field("text", description="text: equal words; learned backends compare embeddings")
    min_clarity: float = Field(0.05, ge=0, le=1, description="difference that tells two equal captions apart, 0 … 1")
    min_regions: int = Field(2, ge=1, description="regions that a picture needs to be kept")


class QAConfig(Section):
    """The questions: how many, which, about what, and how close a call may be."""

    per_image: int = Field(200, ge=0, description="question-answer pairs per picture, at most")
    max_objects: int = Field(32, ge=1, le=512, description="regions of a picture asked about; the largest ones")
    mix: Literal["balanced", "paper"] | dict[str, Annotated[float, Field(ge=0)]] = Field(
        "balanced",
        description="balanced: half qualitative, half quantitative, types even; paper: the published weights; "
        "or a table of question type → weight, where a type that is not named is not asked",
    )
    margin_m: float = Field(0.02, ge=0, description="a comparison closer than this many metres is a tie")
    margin_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="a comparison closer than this share of the larger size (positions: of the distance to the "
        "viewer) is a tie",
    )
    ties: Literal["skip", "uncertain"] = Field(
        "skip", description="what happens to a tie: no question, or a question answered with uncertainty"
    )
    sizes_of_truncated: bool = Field(
        False, description="ask for sizes and lowest points of regions that are cut off or hidden"
    )


class OutputConfig(Section):
    """What is written."""

    num_shards: int = Field(4, ge=1, le=100_000, description="files per table and slice")
    tfrecord: bool = Field(False, description="write qa_tfrecord/ too, one tf.train.Example per picture")
    formats: tuple[Literal["llava", "messages"], ...] = Field(
        (), description="write qa_llava/ (LLaVA's JSON) or qa_messages/ (chat, JSON lines) too"
    )
    turns: int = Field(1, ge=0, description="question-answer pairs in a conversation of those formats; 0: all")
    store_images: bool = Field(False, description="keep the pictures in scenes")
    store_depth: bool = Field(False, description="keep the depth maps in scenes")


class JobConfig(Section):
    """The whole job."""

    seed: int = Field(0, ge=0, description="every random choice derives from it")
    input: InputConfig = InputConfig()
    fetch: FetchConfig = FetchConfig()
    decode: DecodeConfig = DecodeConfig()
    models: ModelsConfig = ModelsConfig()

    duplicates: DuplicatesConfig = DuplicatesConfig()
    scene_filter: ExpertConfig = ExpertConfig(backend="none")
    regions: ExpertConfig = ExpertConfig(backend="instances")
    masks: ExpertConfig = ExpertConfig(backend="instances")
    depth: ExpertConfig = ExpertConfig(backend="sensor")
    ground: ExpertConfig = ExpertConfig(backend="manifest")
    lift: LiftConfig = LiftConfig()
    captions: ExpertConfig = ExpertConfig(backend="manifest")
    ambiguity: AmbiguityConfig = AmbiguityConfig()
    qa: QAConfig = QAConfig()
    output: OutputConfig = OutputConfig()
    max_failed: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of failed rows above which the job exits with 3, or stops early (fetch.stop_sample)",
    )
