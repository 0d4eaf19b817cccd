"""What asks for secrets, one file per kind. A new kind is one file with KIND, Params and open_target."""
