"""python -m app serve"""

import argparse
import os
import sys

from app.errors import ArtifactError
from app.serve import serve
from app.settings import SettingsError, read_settings


def main() -> int:
    arguments = _parse_arguments()
    try:
        return serve(read_settings(), arguments.host, arguments.port)
    except (SettingsError, ArtifactError) as error:
        print(f"imagegate: {error}", file=sys.stderr)
    except OSError as error:
        print(f"imagegate: {arguments.host}:{arguments.port}: {error.strerror or error}.", file=sys.stderr)
    return 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve an artifact over HTTP.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve_parser = commands.add_parser("serve", help="answer HTTP requests; settings are GATE_* variables")
    serve_parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"), help="address to bind")
    serve_parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8000"), help="port to bind")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
