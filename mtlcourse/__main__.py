"""`python -m mtlcourse`: the command line."""

from .cli import main

if __name__ == "__main__":  # a spawned worker imports this file again and must not start over
    main(prog_name="python -m mtlcourse")
