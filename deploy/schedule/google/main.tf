# What the nightly run on Google Cloud needs: a bucket, a registry, accounts with no more rights than they use, the
# workflow, its schedule, and an alert. The job itself is the Flex Template of deploy/dataflow, the training that may
# follow it the custom jobs of deploy/training/vertex.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

locals {
  images = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}/spatialvlm"
  image  = "${local.images}:${var.image_tag}"

  # The jobs of deploy/training/vertex; the workflow puts the day in place of {run}.
  training = {
    for name in ["train", "evaluate"] : upper(name) => jsonencode(yamldecode(
      templatefile("${path.module}/../../training/vertex/${name}.yaml", {
        IMAGE   = "${local.images}:${var.training_image_tag}"
        BUCKET  = google_storage_bucket.data.name
        RUN     = "{run}"
        TRAINER = google_service_account.trainer.email
      })
    ))
  }

  services = [
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
    "workflows.googleapis.com",
  ]
}

resource "google_project_service" "used" {
  for_each           = toset(local.services)
  service            = each.value
  disable_on_destroy = false
}

resource "google_storage_bucket" "data" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    condition {
      age            = 7
      matches_prefix = ["tmp/", "staging/"]
    }
    action {
      type = "Delete"
    }
  }
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "spatialvlm"
  location      = var.region
  format        = "DOCKER"
  depends_on    = [google_project_service.used]
}

# Dataflow's workers: they read and write the bucket, pull the image, and report to the service.
resource "google_service_account" "worker" {
  account_id   = "spatialvlm-worker"
  display_name = "spatialvlm: workers"
}

resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

# Staging asks for the bucket itself too, which rights on its objects do not cover.
resource "google_storage_bucket_iam_member" "worker" {
  for_each = toset(["roles/storage.objectAdmin", "roles/storage.legacyBucketReader"])
  bucket   = google_storage_bucket.data.name
  role     = each.value
  member   = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}

# Training and evaluation: they read the bucket and write what they make, and nothing else. Vertex AI pulls the image
# with an account of its own.
resource "google_service_account" "trainer" {
  account_id   = "spatialvlm-trainer"
  display_name = "spatialvlm: training"
}

resource "google_storage_bucket_iam_member" "trainer_reads" {
  for_each = toset(["roles/storage.objectViewer", "roles/storage.legacyBucketReader"])
  bucket   = google_storage_bucket.data.name
  role     = each.value
  member   = google_service_account.trainer.member
}

resource "google_storage_bucket_iam_member" "trainer_writes" {
  for_each = toset(["checkpoints", "evaluations"])
  bucket   = google_storage_bucket.data.name
  role     = "roles/storage.objectUser"
  member   = google_service_account.trainer.member

  condition {
    title      = "below ${each.value}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.data.name}/objects/${each.value}/\")"
  }
}

# The workflow and its schedule: they start jobs as the worker, look at them, and start the check. A single workflow has
# no rights of its own in Terraform, so the right to invoke is the project's.
resource "google_service_account" "scheduler" {
  account_id   = "spatialvlm-scheduler"
  display_name = "spatialvlm: schedule and workflow"
}

resource "google_project_iam_member" "scheduler" {
  for_each = toset([
    "roles/dataflow.developer",
    "roles/logging.logWriter",
    "roles/run.viewer",
    "roles/workflows.invoker",
  ])
  project = var.project
  role    = each.value
  member  = google_service_account.scheduler.member
}

# Vertex AI's own roles bring rights on every model and data set of the project.
resource "google_project_iam_custom_role" "starts_training" {
  role_id     = "spatialvlmStartsTraining"
  title       = "spatialvlm: start training jobs and look at them"
  permissions = ["aiplatform.customJobs.create", "aiplatform.customJobs.get"]
}

resource "google_project_iam_member" "scheduler_starts_training" {
  project = var.project
  role    = google_project_iam_custom_role.starts_training.id
  member  = google_service_account.scheduler.member
}

resource "google_service_account_iam_member" "scheduler_acts_as" {
  for_each = {
    worker  = google_service_account.worker.name
    trainer = google_service_account.trainer.name
  }
  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.scheduler.member
}

resource "google_storage_bucket_iam_member" "scheduler" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.scheduler.member
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  name     = google_cloud_run_v2_job.check.name
  location = var.region
  role     = "roles/run.jobsExecutorWithOverrides"
  member   = google_service_account.scheduler.member
}

resource "google_cloud_run_v2_job" "check" {
  name                = "spatialvlm-check"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.worker.email
      max_retries     = 0
      timeout         = "600s"

      containers {
        image   = local.image
        command = ["python"]
        args    = ["/opt/spatialvlm/check_run.py", "--help"]

        resources {
          limits = { cpu = "1", memory = "1Gi" }
        }
      }
    }
  }
  depends_on = [google_project_service.used]
}

resource "google_workflows_workflow" "daily" {
  name                = "spatialvlm-daily"
  region              = var.region
  service_account     = google_service_account.scheduler.id
  source_contents     = file("${path.module}/workflow.yaml")
  deletion_protection = false

  user_env_vars = {
    PROJECT  = var.project
    REGION   = var.region
    BUCKET   = google_storage_bucket.data.name
    IMAGE    = local.image
    WORKER   = google_service_account.worker.email
    TRAIN    = local.training["TRAIN"]
    EVALUATE = local.training["EVALUATE"]
  }
  depends_on = [google_project_service.used]
}

resource "google_cloud_scheduler_job" "daily" {
  name      = "spatialvlm-daily"
  region    = var.region
  schedule  = var.schedule
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.daily.id}/executions"
    body        = base64encode(jsonencode({ argument = jsonencode({ train = var.train }) }))
    headers     = { "Content-Type" = "application/json" }

    oauth_token {
      service_account_email = google_service_account.scheduler.email
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  display_name = "spatialvlm"
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [google_project_service.used]
}

# A job that failed, and a run whose ratios are out of bounds, both end as a failed execution.
resource "google_monitoring_alert_policy" "failed" {
  display_name          = "spatialvlm: a nightly run failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "failed executions of the workflow"

    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"workflows.googleapis.com/Workflow\"",
        "resource.labels.workflow_id = \"${google_workflows_workflow.daily.name}\"",
        "metric.type = \"workflows.googleapis.com/finished_execution_count\"",
        "metric.labels.status = \"FAILED\"",
      ])
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }
}
