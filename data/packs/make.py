"""Makes the packs and the vocabulary of this folder from named packages.

How to run, in an environment of its own:

    python3 -m venv env && env/bin/pip install pillow==13.0.0 numpy==2.4.6 resvg-py==0.5.0 tokenizers==0.23.3
    env/bin/python data/packs/make.py DOWNLOADS

`npm` and `apt-get` (a Debian system) fetch the packages into the folder DOWNLOADS, once. Equal packages and versions
give equal files, byte by byte.
"""

import pathlib
import subprocess
import sys

import clipart
import emoji
import pack
import vocabulary

HERE = pathlib.Path(__file__).parent


def fetcher(downloads):
    """A function from `name@version` (npm) or `name=version` (Debian) to the folder with the package's content."""

    def fetch(package):
        folder = downloads / package.replace("/", "+").replace(":", "+")
        if not folder.exists():
            archives = folder.with_name(folder.name + ".part")
            archives.mkdir(parents=True)
            if "=" in package:
                subprocess.run(["apt-get", "download", package], cwd=archives, check=True)
                (archive,) = archives.glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, archives], check=True)
            else:
                subprocess.run(["npm", "pack", "--silent", package], cwd=archives, check=True, stdout=subprocess.DEVNULL)
                (archive,) = archives.glob("*.tgz")
                subprocess.run(["tar", "xzf", archive, "-C", archives, "--strip-components=1"], check=True)
            archive.unlink()
            archives.rename(folder)
        return folder

    return fetch


def main():
    fetch = fetcher(pathlib.Path(sys.argv[1]).absolute())
    packs = {
        source.__name__: [(row, source.keys(row)) for row in source.rows(fetch)] for source in [emoji, clipart]
    }
    pack.split(packs)
    for source in [emoji, clipart]:
        rows = [row for row, _ in packs[source.__name__]]
        pack.write(HERE, source.__name__, rows, source.MANIFEST)
    vocabulary.make(HERE, [row for pairs in packs.values() for row, _ in pairs])


main()
