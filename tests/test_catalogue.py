"""The list of models: complete, checked, and open to people's own entries."""

from __future__ import annotations

import os
import re

import pytest

from draggan.checkpoints import catalogue
from draggan.checkpoints.catalogue import ModelEntry, all_models, builtin_dir, fetch, find, models_dir, parse
from draggan.config import DragConfig
from draggan.engine.models import CatalogueModels
from draggan.errors import ConfigError, DownloadError, ModelNotFound
from draggan.program import own_command
from draggan.suggestions import TRUNCATION, suggested_config, suggested_truncation


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAGGAN_HOME", str(tmp_path))
    for name in ("HF_ENDPOINT", "DRAGGAN_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def add(home, text):
    (home / "models.toml").write_text(text, "utf-8")


STYLEGAN3 = "ffhq-1024x1024 ffhqu-1024x1024 ffhqu-256x256 metfaces-1024x1024 metfacesu-1024x1024 afhqv2-512x512"
# What the download lists of other implementations name, by the form of their addresses.
PUBLISHED = {
    "stylegan2-{}.pkl": """
        afhqcat-512x512 afhqdog-512x512 afhqv2-512x512 afhqwild-512x512 brecahad-512x512 celebahq-256x256 cifar10-32x32
        ffhq-1024x1024 ffhq-256x256 ffhq-512x512 ffhqu-1024x1024 ffhqu-256x256 lsundog-256x256 metfaces-1024x1024
        metfacesu-1024x1024 car-config-f cat-config-f church-config-f horse-config-f ffhq-config-f""",
    "stylegan3-t-{}.pkl": STYLEGAN3,
    "stylegan3-r-{}.pkl": STYLEGAN3,
    "{}_pytorch.pkl": "lions_512 dogs_1024 horses_256 elephants_512 bicycles_256 giraffes_512 parrots_512",
    "stylegan2-ada-pytorch/pretrained/{}.pkl": "ffhq metfaces afhqcat afhqdog afhqwild cifar10 brecahad",
    "{}": "stylegan_human_v2_512.pkl stylegan_human_v2_1024.pkl 16twEf0T9QINAEoMsWefoWiyhcTd-aiWc",
}


def test_every_list_of_the_peers_is_there():
    urls = " ".join(url for entry in all_models() for url in (*entry.urls, entry.page))
    published = [form.format(name) for form, names in PUBLISHED.items() for name in names.split()]
    assert [name for name in published if name not in urls] == []


def test_names_and_files_are_unique_and_all_is_said():
    entries = all_models()
    assert len({entry.name.lower() for entry in entries}) == len(entries)
    assert len({entry.file.lower() for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.title, entry.name
        assert entry.family, entry.name
        assert entry.size, entry.name
        assert entry.licence, entry.name
        assert entry.urls or entry.page or entry.builtin, entry.name


def test_an_address_and_its_entry_agree_on_the_size():
    for entry in all_models():
        for url in entry.urls:
            told = re.search(r"_(\d+)[_.]|-(\d+)x\d+\.pkl", url)
            if told and entry.size:
                assert int(told[1] or told[2]) == entry.size[0], entry.name


def test_a_level_is_one_that_a_model_of_that_size_has():
    for entry in all_models():
        if entry.level:
            assert entry.size
            assert entry.level in [f"b{4 << i}" for i in range(entry.size[0].bit_length() - 2)], entry.name


def test_the_built_in_ones_come_first_and_lie_in_the_package():
    assert all_models()[0].builtin
    assert all(entry.local.parent == builtin_dir() for entry in all_models() if entry.builtin)


def test_people_add_entries_of_their_own(home):
    add(home, '[[model]]\nname = "mine"\nurls = ["https://example.com/a/My_Cats.pkl"]\nsize = [256, 128]')
    entry = find("mine")
    assert entry == ModelEntry(
        name="mine", title="mine", urls=("https://example.com/a/My_Cats.pkl",), size=(256, 128), file="My_Cats.pkl"
    )
    assert entry.local == home / "models" / "My_Cats.pkl"
    assert entry.state == "to download"


def test_an_entry_of_the_same_name_replaces_ours(home):
    add(home, '[[model]]\nname = "lions-512"\nurls = ["https://mirror.example/lions_512_pytorch.pkl"]')
    assert find("lions-512").urls == ("https://mirror.example/lions_512_pytorch.pkl",)


def test_a_path_anywhere_can_be_named(home, tmp_path):
    add(home, f'[[model]]\nname = "mine"\npath = "{tmp_path}/elsewhere/x.pkl"')
    assert find("mine").state == "missing"
    with pytest.raises(DownloadError, match="Put it back"):
        fetch("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.pkl").write_bytes(b"x")
    assert fetch("mine") == tmp_path / "elsewhere" / "x.pkl"


def test_a_file_in_the_folder_is_a_model(home):
    models_dir().mkdir()
    for name in ("My dog.pkl", "cat.pt", "notes.txt", "x.pkl.part", ".hidden.pkl"):
        (models_dir() / name).write_bytes(b"x")
    listed = {entry.name for entry in all_models()}
    assert {"My dog", "cat.pt"} <= listed
    assert not any(name in " ".join(listed) for name in ("notes", "part", "hidden"))
    assert find("My dog").state == "on disk"
    assert fetch("My dog") == models_dir() / "My dog.pkl"


def test_a_listed_file_put_there_by_hand_is_found(home):
    entry = find("lhq-256")
    assert entry.by_hand
    assert entry.state == "by hand"
    with pytest.raises(DownloadError, match=r"get it from https://drive\.google\.com/.* and save it as .*lhq-256\.pkl"):
        fetch("lhq-256")
    models_dir().mkdir()
    entry.local.write_bytes(b"x")
    assert find("lhq-256").state == "on disk"
    assert entry.bytes_on_disk() == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[model]", "is not a TOML file"),
        ("[model]\nname = 'a'", "every entry begins with"),
        ("[[models]]\nname = 'a'", "'models' is not known"),
        ("[[model]]\nurls = []", "model number 1: name must be made of"),
        ("[[model]]\nname = '../a'", "name must be made of"),
        ("[[model]]\nname = 3", "must be text"),
        ("[[model]]\nname = 'a'", "give urls"),
        ("[[model]]\nname = 'a'\npath = 'b'\n[[model]]\nname = 'a'\npath = 'c'", "there twice"),
        ("[[model]]\nname = 'a'\nurl = 'https://b/c'", "unknown key 'url'; known are name"),
        ("[[model]]\nname = 'a'\nurls = 'https://b/c'", "list of texts"),
        ("[[model]]\nname = 'a'\nurls = ['http://b/c']", "only https .* as 'page'"),
        ("[[model]]\nname = 'a'\nurls = ['file:///etc/passwd']", "only https"),
        ("[[model]]\nname = 'a'\npath = 'b'\nfile = '../../c'", "plain file name"),
        ("[[model]]\nname = 'a'\npath = 'b'\nfamily = 'stylegan9'", "family must be one of stylegan2, stylegan3"),
        ("[[model]]\nname = 'a'\npath = 'b'\nformat = 'zip'", "format must be one of"),
        ("[[model]]\nname = 'a'\npath = 'b'\nsize = 512", r"must be \[height, width\]"),
        ("[[model]]\nname = 'a'\npath = 'b'\nsize = [512, 1e9]", r"must be \[height, width\]"),
        ("[[model]]\nname = 'a'\npath = 'b'\nbytes = -1", "whole number above 0"),
        ("[[model]]\nname = 'a'\npath = 'b'\nsha256 = 'abc'", "64 hexadecimal digits"),
        ("[[model]]\nname = 'a'\npath = 'b'\ntruncation = nan", "number from 0 to 1.5"),
        ("[[model]]\nname = 'a'\npath = 'b'\nstep_size = true", "number from 1e-06 to 1"),
        ("[[model]]\nname = 'a'\npath = 'b'\nsolver = 'sgd'", "must be 'adam' or 'gauss-newton'"),
        ("[[model]]\nname = 'a'\npath = 'b'\nbuiltin = true", "builtin is for"),
        ("[[model]]\nname = 'a'\npath = 'b'\npresets = 'x'", "presets must be a list"),
        ("[[model]]\nname = 'a'\npath = 'b'\npresets = [{ title = 'x' }]", "a preset looks like"),
        ("[[model]]\nname = 'a'\npath = 'b'\npresets = [{ title = 'x', seed = -1, points = [[1, 1, 2, 2]] }]", "looks"),
        ("[[model]]\nname = 'a'\npath = 'b'\npresets = [{ title = 'x', seed = 1, points = [] }]", "a preset looks"),
        (
            "[[model]]\nname = 'a'\npath = 'b'\nsize = [9, 5]\n"
            "presets = [{ title = 'x', seed = 1, points = [[4, 8, 5, 0]] }]",
            r"\[4, 8, 5, 0\] of preset 'x' is not",
        ),
    ],
)
def test_a_wrong_entry_is_explained_and_stops_nothing(home, text, told):
    add(home, text)
    with pytest.raises(ConfigError, match=told):
        parse(home / "models.toml")
    found = catalogue.read_catalogue()
    assert find("lions-512")
    assert len(found.problems) == 1


def test_an_unknown_name_is_answered_with_similar_ones():
    with pytest.raises(ModelNotFound, match=r"did you mean stylegan2-ffhq-512"):
        find("stylegan2-ffhq512")
    with pytest.raises(ModelNotFound, match=f"`{own_command()} models` lists"):
        find("no such file.pkl")


def test_a_download_goes_to_the_folder_of_models_with_what_is_known(home, monkeypatch):
    calls = []
    monkeypatch.setattr(
        catalogue, "download", lambda urls, path, **options: calls.append((urls, path, options)) or path
    )
    assert fetch("lions-512") == home / "models" / "lions_512_pytorch.pkl"
    urls, _, options = calls.pop()
    assert [url.split("/")[2] for url in urls] == ["storage.googleapis.com", "huggingface.co"]
    assert options["pins"] == home / "pins.json"
    assert "By hand: get it from https://storage" in options["advice"]
    listed = find("lions-512").urls[0]
    assert fetch(listed) == home / "models" / "lions_512_pytorch.pkl"


def test_an_address_is_fetched_under_a_name_of_its_own(home, monkeypatch):
    monkeypatch.setattr(catalogue, "download", lambda urls, path, **options: path)
    one, two = fetch("https://a.example/x/model.pkl"), fetch("https://b.example/x/model.pkl?token=1")
    assert one != two
    assert all(re.fullmatch(r"[0-9a-f]{8}-model\.pkl", path.name) for path in (one, two))
    assert fetch("https://a.example/..%2f..%2fetc").parent == home / "models"
    with pytest.raises(DownloadError, match="only https"):
        fetch("http://a.example/model.pkl")


def test_a_model_is_found_by_name_address_and_file(home):
    models_dir().mkdir()
    entry = find("lions-512")
    entry.local.write_bytes(b"x")
    for given in ("lions-512", entry.urls[1], entry.local, str(entry.local)):
        assert catalogue.listed_entry(given) == entry
    assert catalogue.listed_entry("https://example.com/x.pkl") is None
    assert catalogue.listed_entry(home / "nothing.pkl") is None
    assert entry.hosts() == ["storage.googleapis.com", "huggingface.co"]


def test_presets_are_read(home):
    add(home, '[[model]]\nname = "m"\npath = "m"\npresets = [{ title = "Up", seed = 3, points = [[1, 2, 3, 4.5]] }]')
    assert find("m").presets == (catalogue.Preset(title="Up", seed=3, points=((1, 2, 3, 4.5),)),)


def test_there_are_as_many_drags_to_try_as_the_page_has_room_for():
    assert len(find("cat").presets) == 6
    for entry in all_models():
        titles = [preset.title for preset in entry.presets]
        assert len(titles) == len(set(titles)) <= 6, entry.name


def test_what_suits_a_model_is_asked_in_one_place(home):
    add(
        home,
        '[[model]]\nname = "plain"\npath = "m.pkl"\n'
        '[[model]]\nname = "own"\npath = "n.pkl"\nstep_size = 0.003\nlevel = "b32"\ntruncation = 0.4\n'
        'solver = "newton"',
    )
    assert suggested_config("plain") == suggested_config("unlisted.pkl") == DragConfig()
    own = {"step_size": 0.003, "solver": "newton", "level": "b32"}
    assert suggested_config("own") == DragConfig(**own)
    assert suggested_config("own", step_size=0.1, max_steps=3) == DragConfig(**own | {"step_size": 0.1, "max_steps": 3})
    assert suggested_truncation("own") == 0.4
    assert suggested_truncation("plain") == suggested_truncation("unlisted.pkl") == TRUNCATION
    with pytest.raises(ConfigError, match="step_size"):
        suggested_config("own", step_size=-1)


def test_finding_one_model_looks_for_no_other_on_the_disk(monkeypatch):
    """With every step of every drag a model is looked up: forty files each time were half of a busy server's time."""
    looked_for = []
    on_disk = ModelEntry.on_disk.fget
    monkeypatch.setattr(ModelEntry, "on_disk", property(lambda entry: looked_for.append(entry.name) or on_disk(entry)))
    assert CatalogueModels("cpu").find("cat").here
    assert set(looked_for) == {"cat"}
    with pytest.raises(ModelNotFound):
        CatalogueModels("cpu", downloads=False).find("ffhq")


def test_the_list_is_read_again_once_it_has_changed(home, monkeypatch):
    folder = models_dir()
    folder.mkdir()
    for path in (folder, home):
        os.utime(path, (1e9, 1e9))
    reads = []
    read = catalogue._read
    monkeypatch.setattr(catalogue, "_read", lambda seen: reads.append(seen) or read(seen))
    for _ in range(3):
        assert "mine" not in {entry.name for entry in all_models()}
    assert len(reads) == 1
    (folder / "mine.pkl").write_bytes(b"x")
    assert find("mine").file == "mine.pkl"
    # Written a moment ago: another change may have the same time.
    (folder / "mine.pkl").rename(folder / "other.pkl")
    assert find("other").file == "other.pkl"
    add(home, '[[model]]\nname = "third"\nfile = "other.pkl"\n')
    assert find("third").local == folder / "other.pkl"
