"""The loader of the UCI HIGGS file, on small files in its format."""

import gzip
import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnbook.data import higgs as module
from bnbook.data.higgs import FEATURES, higgs, load_higgs
from bnbook.data.higgs_toy import higgs_toy

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def text(x, t):
    """As np.savetxt writes a table, which is how the UCI file looks."""
    return "".join(
        ",".join(f"{float(v):.18e}" for v in (label, *row)) + "\n"
        for label, row in zip(t, x, strict=True)
    )


@pytest.fixture
def events():
    return higgs_toy(37, seed=4)


@pytest.fixture
def plain(tmp_path, events):
    path = tmp_path / "HIGGS.csv"
    path.write_text(text(*events))
    return path


def packed(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()))
    return path


def same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


class TestFormat:
    def test_columns_are_the_label_and_28_features(self):
        assert len(FEATURES) == 28 == module.WIDTH - 1
        assert FEATURES[:5] == (
            "lepton_pT",
            "lepton_eta",
            "lepton_phi",
            "missing_energy_magnitude",
            "missing_energy_phi",
        )
        assert FEATURES[5:9] == ("jet_1_pt", "jet_1_eta", "jet_1_phi", "jet_1_btag")
        assert FEATURES[-7:] == (
            *("m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"),
        )

    def test_plain_and_gzip_give_the_same_numbers_whatever_the_name(
        self, tmp_path, plain, events
    ):
        same(load_higgs(plain), events)
        same(load_higgs(packed(tmp_path / "misnamed.csv", text(*events))), events)
        other = tmp_path / "misnamed.csv.gz"
        other.write_text(text(*events))
        same(load_higgs(other), events)

    def test_the_beginning_of_a_line_as_the_uci_file_has_it(self, tmp_path):
        rest = ",".join(["1.000000000000000000e+00"] * 26)
        path = tmp_path / "HIGGS.csv"
        path.write_text(
            "1.000000000000000000e+00,8.692932128906250000e-01,"
            f"-6.350818276405334473e-01,{rest}\n"
        )
        x, t = load_higgs(path)
        assert t.tolist() == [1]
        assert x[0, 0] == np.float32(0.869293212890625)
        assert f"{x[0, 1]:.18e}" == "-6.350818276405334473e-01"

    def test_the_first_rows(self, plain, events):
        same(load_higgs(plain, 5), [a[:5] for a in events])
        same(load_higgs(plain, np.int64(37)), events)

    def test_windows_line_ends_and_a_missing_last_one(self, tmp_path, events):
        path = tmp_path / "crlf.csv"
        path.write_bytes(text(*events).replace("\n", "\r\n").encode())
        same(load_higgs(path), events)
        path.write_text(text(*events).rstrip("\n"))
        same(load_higgs(path), events)

    def test_many_pieces(self, plain, events, monkeypatch):
        monkeypatch.setattr(module, "LINES", 4)
        same(load_higgs(plain, cache=False), events)
        same(load_higgs(plain, 8, cache=False), [a[:8] for a in events])

    def test_it_reads_no_more_than_a_piece(self, plain, monkeypatch):
        """The file is streamed: what lies behind the rows asked for may be garbage."""
        with open(plain, "a") as file:
            file.write("garbage\n")
        assert len(load_higgs(plain, 37)[0]) == 37

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.integers(1, 6).flatmap(
            lambda n: st.tuples(
                arrays(np.float32, (n, 28), elements=FINITE),
                arrays(np.int64, n, elements=st.integers(0, 1)),
            )
        ),
        st.booleans(),
        st.integers(1, 3),
    )
    def test_what_is_written_is_read(self, tmp_path, table, gzipped, lines):
        path = tmp_path / "round.csv"
        content = text(*table)
        packed(path, content) if gzipped else path.write_text(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "LINES", lines)
            same(load_higgs(path, cache=False), table)


class TestBadFile:
    @pytest.fixture
    def broken(self, tmp_path, events):
        def write(line, change):
            lines = text(*events).splitlines()
            lines[line - 1] = change(lines[line - 1])
            path = tmp_path / "HIGGS.csv"
            path.write_text("\n".join(lines) + "\n")
            return path

        return write

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"HIGGS\.csv\.gz.*higgs_toy"):
            load_higgs(tmp_path / "no.csv")
        with pytest.raises(FileNotFoundError):
            load_higgs(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.rpartition(",")[0], "line 23: expected 29 fields.*got 28"),
            (lambda s: s + ",1.0", "line 23: expected 29 fields.*got 30"),
            (lambda s: s[:200], "line 23: expected 29 fields"),
            (lambda s: "", "line 23: empty"),
            (lambda s: "2" + s[1:], "line 23: the label must be 0 or 1, got 2"),
            (lambda s: "0.5" + s[24:], "line 23: the label must be 0 or 1, got 0.5"),
            (lambda s: "-1" + s[24:], "line 23: the label must be 0 or 1, got -1"),
            (
                lambda s: s.rpartition(",")[0] + ",nan",
                r"line 23: field 29 \(m_wwbb\) is nan, not a finite",
            ),
            (
                lambda s: "1,inf" + s[49:],
                r"line 23: field 2 \(lepton_pT\) is inf, not a finite",
            ),
            (
                lambda s: s.rpartition(",")[0] + ",1e400",
                "line 23: m_wwbb is 1e400, too large",
            ),
            (
                lambda s: s.rpartition(",")[0] + ",1e39",
                "line 23: m_wwbb is 1e39, too large",
            ),
            (
                lambda s: s.rpartition(",")[0] + ",",
                r"line 23: field 29 \(m_wwbb\) is '', not a number",
            ),
            (lambda s: s.replace("e", "x", 1), "line 23: field 1.*not a number"),
            (lambda s: s.replace(".", "_", 1), "line 23: field 1.*not a number"),
            (lambda s: "# " + s, "line 23: field 1.*not a number"),
            (lambda s: s.replace(",", ";"), "line 23: expected 29 fields.*got 1"),
            (lambda s: s + "é", "line 23: holds bytes that are no text"),
            (lambda s: s * 40, "line 23: longer than 4096 bytes"),
        ],
    )
    @pytest.mark.parametrize("lines", [4, 20_000])
    def test_the_message_names_file_and_line(
        self, broken, change, message, lines, monkeypatch
    ):
        monkeypatch.setattr(module, "LINES", lines)
        path = broken(23, change)
        with pytest.raises(ValueError, match=message) as error:
            load_higgs(path)
        assert str(path) in str(error.value)
        assert list(path.parent.iterdir()) == [path], "a bad file leaves no cache"

    def test_header(self, broken):
        path = broken(1, lambda s: ",".join(("class_label", *FEATURES)))
        with pytest.raises(ValueError, match=r"line 1: field 1.*no header line"):
            load_higgs(path)

    def test_empty(self, tmp_path):
        path = tmp_path / "empty.csv"
        path.write_bytes(b"")
        with pytest.raises(ValueError, match="is empty"):
            load_higgs(path)
        with pytest.raises(ValueError, match="is empty"):
            load_higgs(packed(path, ""))

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
    def test_truncated_gzip(self, tmp_path, events, share):
        path = packed(tmp_path / "HIGGS.csv.gz", text(*events))
        data = path.read_bytes()
        path.write_bytes(data[: max(3, int(share * len(data)))])
        with pytest.raises(ValueError, match=r"HIGGS\.csv\.gz ends within its gzip"):
            load_higgs(path)

    def test_damaged_gzip(self, tmp_path, events):
        path = packed(tmp_path / "HIGGS.csv.gz", text(*events))
        data = bytearray(path.read_bytes())
        for place in (len(data) // 2, len(data) - 6):  # in the data, in the checksum
            bad = bytearray(data)
            bad[place] ^= 0xFF
            path.write_bytes(bad)
            with pytest.raises(ValueError, match=r"HIGGS\.csv\.gz"):
                load_higgs(path)
        path.write_bytes(data[:2] + b"\xff" + data[3:])
        with pytest.raises(ValueError, match="is damaged"):
            load_higgs(path)

    def test_fewer_rows_than_asked_for(self, plain):
        with pytest.raises(ValueError, match="holds 37 rows, 38 were asked for"):
            load_higgs(plain, 38)

    @pytest.mark.parametrize(
        ("rows", "kind"),
        [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)],
    )
    def test_rows(self, plain, rows, kind):
        with pytest.raises(kind, match="rows must be"):
            load_higgs(plain, rows)


class TestChecksum:
    def test_right_and_wrong(self, plain, events):
        good = hashlib.sha256(plain.read_bytes()).hexdigest()
        same(load_higgs(plain, sha256=good.upper()), events)
        same(load_higgs(plain, sha256=good), events)
        with pytest.raises(ValueError, match=f"checksum {good}, expected 0000"):
            load_higgs(plain, sha256="0" * 64)
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            load_higgs(plain, sha256="abc")

    def test_a_cache_made_without_it_does_not_vouch_for_it(self, plain):
        load_higgs(plain)
        with pytest.raises(ValueError, match="checksum"):
            load_higgs(plain, sha256="0" * 64)


class TestCache:
    @pytest.fixture
    def reads(self, monkeypatch):
        """Counts how often the text is parsed."""
        calls = []
        parsed = module._parsed
        monkeypatch.setattr(
            module, "_parsed", lambda *args: calls.append(1) or parsed(*args)
        )
        return calls

    def test_the_second_call_reads_no_text(self, plain, events, reads):
        load_higgs(plain)
        same(load_higgs(plain), events)
        assert len(reads) == 1
        assert (plain.parent / "HIGGS.csv.all.npz").is_file()

    def test_it_is_smaller_than_the_text(self, plain):
        load_higgs(plain)
        assert (plain.parent / "HIGGS.csv.all.npz").stat().st_size < (
            plain.stat().st_size / 3
        )

    def test_another_folder(self, plain, events, reads, tmp_path):
        for _ in range(2):
            same(load_higgs(plain, cache=tmp_path / "deep" / "cache"), events)
        assert len(reads) == 1
        assert len(list((tmp_path / "deep" / "cache").iterdir())) == 1
        assert not (plain.parent / "HIGGS.csv.all.npz").exists()

    def test_no_cache(self, plain, reads):
        for _ in range(2):
            load_higgs(plain, cache=False)
        assert len(reads) == 2
        assert list(plain.parent.iterdir()) == [plain]

    def test_other_rows_are_read_again(self, plain, events, reads):
        for rows in (5, 9, 5):
            same(load_higgs(plain, rows), [a[:rows] for a in events])
        assert len(reads) == 2

    def test_a_changed_file_is_read_again(self, plain, reads):
        load_higgs(plain)
        x, t = higgs_toy(37, seed=5)
        plain.write_text(text(x, t))
        same(load_higgs(plain), (x, t))
        assert len(reads) == 2

    def test_a_change_of_one_digit_is_seen_by_the_time_stamp(
        self, plain, events, reads
    ):
        load_higgs(plain)
        size = plain.stat().st_size
        flipped = 1 - events[1]
        plain.write_text(text(events[0], flipped))
        os.utime(plain, ns=(1, 1))
        assert plain.stat().st_size == size
        same(load_higgs(plain), (events[0], flipped))
        assert len(reads) == 2

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"no cache at all",
            lambda data: data[: len(data) // 2],
            lambda data: (
                data[:2000] + bytes(b ^ 255 for b in data[2000:2100]) + data[2100:]
            ),
        ],
    )
    def test_a_damaged_cache_is_made_again(self, plain, events, reads, damage):
        load_higgs(plain)
        stored = plain.parent / "HIGGS.csv.all.npz"
        stored.write_bytes(damage(stored.read_bytes()))
        same(load_higgs(plain), events)
        same(load_higgs(plain), events)
        assert len(reads) == 2

    def test_a_foreign_cache_is_made_again(self, plain, events, reads):
        stored = plain.parent / "HIGGS.csv.all.npz"
        np.savez(stored, x=np.zeros((3, 28), np.float32), t=np.zeros(3))
        same(load_higgs(plain), events)
        assert len(reads) == 1

    def test_it_is_written_whole_or_not_at_all(self, plain, monkeypatch):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(module.np, "savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_higgs(plain)
        assert list(plain.parent.iterdir()) == [plain]

    def test_a_folder_without_permission_costs_a_warning(
        self, plain, events, monkeypatch
    ):
        def refused(*args, **kwargs):
            raise PermissionError("read-only")

        monkeypatch.setattr(module.tempfile, "mkstemp", refused)
        with pytest.warns(UserWarning, match="cannot be written"):
            same(load_higgs(plain), events)


class TestDataset:
    def test_from_a_file_and_simulated(self, plain):
        real, toy = higgs(30, path=plain), higgs(30)
        assert (real.name, toy.name) == ("HIGGS", "toy Higgs")
        for data in (real, toy):
            assert [len(p.x) for p in data.parts().values()] == [22, 4, 4]
            assert data.features == FEATURES

    def test_progress(self, plain, capsys):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_higgs(plain, cache=False, progress=True)
        assert "37row" in capsys.readouterr().err.replace(" ", "")
