"""``tuneproof assets``: files from elsewhere."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tuneproof.cli.app import JsonOption, QuietOption, app

assets_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Files from elsewhere: list, fetch, verify. Example: tuneproof assets list",
)
app.add_typer(assets_app, name="assets")
app.add_typer(assets_app, name="assets")


@assets_app.command("list")
def assets_list(as_json: JsonOption = False) -> None:
    """Every asset: origin, licence, digest, and where on this machine it is.

    Example: tuneproof assets list --json
    """
    from tuneproof.assets import ASSETS, cached_folder, is_cached
    from tuneproof.benchmark_files import BENCHMARK_FILES, local_path

    rows = [
        {
            "id": asset.id,
            "origin": asset.origin,
            "licence": asset.licence,
            "bytes": asset.bytes,
            "sha256": asset.sha256,
            "cached": str(cached_folder(asset)) if is_cached(asset) else None,
        }
        for asset in ASSETS
    ] + [
        {
            "id": file.name,
            "origin": file.origin,
            "licence": file.licence,
            "bytes": file.bytes,
            "sha256": file.sha256,
            "cached": None if (path := local_path(file)) is None else str(path),
        }
        for file in BENCHMARK_FILES
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['id']}\n  from    {row['origin']}\n  licence {row['licence']}")
        typer.echo(f"  sha256  {row['sha256']}\n  cached  {row['cached'] or 'no'}")


@assets_app.command("fetch")
def assets_fetch(
    name: Annotated[str, typer.Argument(help="An asset's name, from assets list.")],
    quiet: QuietOption = False,
) -> None:
    """Fetch, check and cache one asset.

    Example: tuneproof assets fetch smollm2-135m-instruct
    """
    from tuneproof.assets import ensure_model, find_asset
    from tuneproof.benchmark_files import ensure_file, find_benchmark_file
    from tuneproof.errors import UsageError
    from tuneproof.progress import make_reporter

    benchmark_file = find_benchmark_file(name)
    if benchmark_file is not None:
        typer.echo(ensure_file(benchmark_file))
    elif "/" in name:
        raise UsageError(
            "no such file of a benchmark",
            place="asset",
            value=name,
            remedy="All assets: tuneproof assets list",
        )
    else:
        typer.echo(ensure_model(find_asset(name), make_reporter(quiet=quiet)))


@assets_app.command("verify")
def assets_verify() -> None:
    """Compare every asset on this machine with its digest; a damaged cached copy is removed.

    Example: tuneproof assets verify
    """
    from tuneproof.assets import ASSETS, damage, forget, is_cached
    from tuneproof.benchmark_files import BENCHMARK_FILES, verified
    from tuneproof.errors import AssetError

    for asset in ASSETS:
        if not is_cached(asset):
            typer.echo(f"{asset.id}  not cached")
            continue
        wrong = damage(asset)
        if wrong is not None:
            forget(asset)
            raise AssetError(
                f"{wrong}; the cached copy was removed",
                place=asset.id,
                remedy=f"Fetch it again: tuneproof assets fetch {asset.name}",
            )
        typer.echo(f"{asset.id}  intact")
    for file in BENCHMARK_FILES:
        typer.echo(f"{file.name}  {'intact' if verified(file) else 'not cached'}")
