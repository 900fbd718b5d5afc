"""Names of files that are written for images that are read."""

from pathlib import Path

from labelassemble.data.output_names import named_after


def test_a_file_named_by_its_uid_keeps_all_of_it(tmp_path: Path) -> None:
    found = named_after(["/a/1.2.3.5", "/a/1.2.3.6", "/a/x.dcm", "/b/x.dcm"], tmp_path, ".json")
    assert [path.name for path in found] == ["1.2.3.5.json", "1.2.3.6.json", "x.json", "x-2.json"]
