"""Where a Hugging Face tokenizer lies: a folder, or a name on the Hub, of which only tokenizer files are fetched."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from moe_hub.config.data import HUB_ID
from moe_hub.data.tokenizer import PRETRAINED_FILES
from moe_hub.errors import DataError


def pretrained_folder(name: str, *, offline: bool = False) -> Path:
    """The folder of a tokenizer; raises `DataError`.

    A name is looked up in the local cache first and then on the Hub, unless `offline`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(HUB_ID, name):
        raise DataError(
            f"tokenizer {name!r}: no such folder, and no name such as owner/name; check data.tokenizer_path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    for local in (True,) if offline else (True, False):
        try:
            found = Path(snapshot_download(name, allow_patterns=list(PRETRAINED_FILES), local_files_only=local))
        except LocalEntryNotFoundError as error:
            if offline or not local:
                raise DataError(
                    f"tokenizer {name}: the Hub cannot be reached and no copy is in the local cache; give a folder "
                    f"with tokenizer.json in data.tokenizer_path ({type(error.__cause__).__name__})"
                ) from None
        except (RepositoryNotFoundError, HfHubHTTPError) as error:
            raise DataError(f"tokenizer {name}: {str(error).splitlines()[0]}; check the name") from None
        except OSError as error:
            raise DataError(f"tokenizer {name}: the Hub cannot be reached ({error}); give a folder instead") from None
        else:
            if (found / "tokenizer.json").is_file():
                return found
    raise DataError(f"tokenizer {name}: it has no tokenizer.json, only fast tokenizers can be used; choose another")


def pretrained_key(name: str) -> dict[str, str]:
    """Hash of the tokenizer's files, for the key of the token cache."""
    folder, digest = pretrained_folder(name), hashlib.sha256()
    for file in PRETRAINED_FILES:
        if (folder / file).is_file():
            digest.update(file.encode() + b"\0" + (folder / file).read_bytes())
    return {"tokenizer_path": name, "tokenizer_sha256": digest.hexdigest()}
