"""`recsys push`: a bundle on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import bundle_argument, json_option, print_json


@click.command()
@bundle_argument
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--with-seen", is_flag=True, help="Publish what users have rated, too, if BUNDLE holds it.")
@json_option
def push(bundle: Path, repo: str, private: bool, with_seen: bool, as_json: bool) -> None:
    """Put BUNDLE on the Hugging Face Hub, as one commit to the model repository OWNER/NAME.

    The bundle is checked first. Its README.md is the model card that the Hub shows. The token is that of
    `hf auth login`, or HF_TOKEN. A repository that is not there is made.

    A bundle that holds what users have rated (seen.parquet) needs --private or --with-seen; `recsys export
    --without-seen` makes one without.

    \b
      recsys push artifacts/mine me/movies --private
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    from serve.errors import HubError
    from serve.runtime.checked_graph import check_all
    from serve.runtime.recommender import Recommender
    from serve.terminal import warn

    recommender = Recommender.load(bundle, "cpu")
    check_all(recommender)
    opened = recommender.bundle
    if not (private or with_seen or opened.manifest.without_seen):
        raise click.UsageError(
            "BUNDLE holds what users have rated. Export it --without-seen; or push it --private, or say "
            "--with-seen."
        )
    api = HfApi()
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(made.repo_id).private:
            raise click.UsageError(f"{made.repo_id} is there and public: --private does not change that.")
        commit = api.upload_folder(
            repo_id=made.repo_id,
            folder_path=opened.path,
            commit_message=f"Bundle {opened.version[:12]}",
            delete_patterns="*",
        )
    except HFValidationError as error:
        raise click.UsageError(str(error)) from None
    except LocalTokenNotFoundError:
        raise HubError("no token: run `hf auth login`, or set HF_TOKEN.") from None
    except click.UsageError:
        raise
    except Exception as error:  # noqa: BLE001  of the HTTP library below: requests, httpx or httpx2
        raise HubError(f"{api.endpoint}: {' '.join(str(error).split())[:300]}") from None
    if as_json:
        print_json({"repo": made.repo_id, "commit": commit.oid, "version": opened.version})
        return
    n_files = len(opened.manifest.files) + 1
    click.echo(f"{api.endpoint}/{made.repo_id}: {n_files} files, commit {commit.oid[:12]}")
    if opened.manifest.data.licence:
        warn(f"Terms of the data: {opened.manifest.data.licence}")
