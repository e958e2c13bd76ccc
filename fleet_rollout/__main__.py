"""`python -m fleet_rollout` is the `fleet-rollout` command."""

from fleet_rollout.faces.cli.main import main

if __name__ == "__main__":
    main()
