variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the bucket, the registry and the jobs, e.g. europe-west4."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket for manifests, runs, templates, weights and temporary files."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image in the registry that this makes."
  type        = string
  default     = "latest"
}

variable "training_image_tag" {
  description = "Tag of the image that trains (EXTRAS=models,gcp,report,train)."
  type        = string
  default     = "latest-train"
}

variable "train" {
  description = "Whether every night's run goes on with a training and an evaluation."
  type        = bool
  default     = false
}

variable "schedule" {
  description = "When to start, in cron's terms, UTC."
  type        = string
  default     = "30 2 * * *"
}

variable "alert_email" {
  description = "Who is told when a run fails."
  type        = string
}
