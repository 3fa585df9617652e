"""The process that ``twist peers`` runs."""
