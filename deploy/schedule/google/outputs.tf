output "image" {
  description = "What to tag and push the image as (make image IMAGE=…)."
  value       = local.image
}

output "worker" {
  description = "Account that the workers run as (SERVICE_ACCOUNT of deploy/dataflow/submit.sh)."
  value       = google_service_account.worker.email
}
