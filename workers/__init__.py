"""GPU consumers: each job runs in one handler to one outcome. The only place of torch and transformers."""
