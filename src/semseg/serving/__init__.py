"""HTTP around a predictor: the platform's inference contract (container-contract.md section 2). No MXNet here."""
