output "image" {
  description = "What to tag and push the image as (make image IMAGE=…)."
  value       = local.image
}

output "worker" {
  description = "Account that the workers run as (SERVICE_ACCOUNT of deploy/dataflow/submit.sh)."
  value       = google_service_account.worker.email
}

output "trainer" {
  description = "Account that training runs as (TRAINER of deploy/training/vertex/submit.sh)."
  value       = google_service_account.trainer.email
}
