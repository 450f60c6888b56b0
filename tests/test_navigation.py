"""Navigation: what agents learn from, what they are asked, how they walk, and that a run ends with its summary."""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import following, navigation, routes, runs
from experiments.datasets import halls, sail
from experiments.datasets.images import images
from experiments.datasets.worlds import FORWARD, LEFT, RIGHT, STOP, Example, Pose, one_after_the_other

SMALL = navigation.Config(
    features=12, embedding=8, sight=10, batch_size=6, steps=2, evaluations=1, several=0.0, mirrored=False, average=0.9
)


def generates(found):
    """In the place of what generates buildings: these, or none."""
    return lambda *, worlds=4, **_: found if worlds else sail.Routes({}, [], [])


@pytest.fixture(scope="module")
def found():
    return halls.generate(worlds=4, routes=6, seed=1)


@pytest.fixture(scope="module")
def atlas(found):
    return routes.Atlas(found.worlds, images(mirror=True, renamed=2))


@pytest.fixture(scope="module")
def course(found, atlas):
    return routes.Course(atlas, found, {"3"}, unknown="four", held_out=0.25)


@pytest.fixture(scope="module")
def task(found):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halls, "generate", generates(found))
        return navigation.Task(dataclasses.replace(SMALL, agents=2))


def test_worlds_are_numbered_through(found, atlas):
    for name in ("0", "2", "mirrored 1", "renamed 1 2"):
        world, first = atlas.worlds[name], atlas.first[name]
        states = np.arange(first, first + len(world.moves))
        assert [atlas.state(name, atlas.pose(name, state)) for state in states] == states.tolist()
        np.testing.assert_array_equal(atlas.moves[states], world.moves + first)
        np.testing.assert_array_equal(atlas.views[states], world.views)


def test_what_is_asked_and_what_is_held_out_is_never_learnt(found, atlas, course):
    learnt = [lesson for size in course.single + course.several for lesson in size]
    states = {state for lesson in learnt for way in lesson.ways for state in way[0]}
    for name in ("3", "mirrored 3", "renamed 0 3"):
        assert not states & set(range(atlas.first[name], atlas.first[name] + len(atlas.worlds[name].moves)))
    assert {example.world for example in course.sentences + course.paragraphs} == {"3"}
    paragraphs = {example.name.rsplit("-", 1)[0] for example in course.held_out}
    assert len(paragraphs) == round(0.25 * 18)
    others = [e for e in found.sentences if e.world != "3" and e.name.rsplit("-", 1)[0] not in paragraphs]
    assert sum(map(len, course.single)) == 4 * len(others)
    assert len(course.held_out) == 3 * len(paragraphs)


def test_what_is_generated_is_learnt_from_besides(found):
    more = halls.generate(worlds=2, routes=3, like_sail=True, label="generated ", seed=9)
    atlas = routes.Atlas(found.worlds, more=more.worlds)
    settings = {"unknown": "four", "held_out": 0.0}
    without = routes.Course(atlas, found, {"3"}, **settings)
    course = routes.Course(atlas, found, {"3"}, more=more.sentences, **settings)
    assert sum(map(len, course.single)) == sum(map(len, without.single)) + len(more.sentences)
    assert sum(map(len, course.several)) > sum(map(len, without.several))
    said = {word for example in more.sentences for word in example.words}
    assert set(course.codes) == set(without.codes) | (said - {word for e in found.sentences for word in e.words})


def test_sentences_in_a_row_are_joined_where_they_go_on(atlas):
    a, b, c = Pose(0, 0, 0), Pose(0, 0, 1), Pose(0, 0, 2)
    group = [Example("p-1", "0", ("x",), (a, b)), Example("p-2", "0", ("y", "z"), (b, c)), Example("p-3", "0", ("x",), (a,))]
    (joined,) = routes.joined(group)
    assert joined.words == ("x", ".", "y", "z")
    assert joined.path == (a, b, c)


def test_batches_are_examples_of_their_course(course):
    batch = routes.Lessons([course, course], several=0.5)(np.random.default_rng(4), 5)
    assert batch["tokens"].shape[:2] == batch["mask"].shape[:2] == (5, 2)
    assert (batch["tokens"].shape[2], batch["mask"].shape[2]) in routes.SIZES
    known = {
        (tuple(lesson.codes), tuple(states), tuple(actions))
        for size in course.single + course.several
        for lesson in size
        for states, actions in lesson.ways
    }
    for row in range(5):
        for agent in range(2):
            parts = {name: array[row, agent] for name, array in batch.items()}
            codes = tuple(parts["tokens"][parts["tokens"] != routes.PADDING].tolist())
            steps = tuple(tuple(parts[name][parts["mask"]].tolist()) for name in ("states", "actions"))
            assert (codes, *steps) in known
            assert steps[1][-1] == STOP


def test_words_that_are_rare_are_unknown_but_where_images_made_them(found, atlas):
    plain = routes.Atlas(found.worlds)
    usual = routes.Course(plain, found, {"3"}, unknown="four", held_out=0.0, rare=1)
    counts = {word: sum(word in e.words for e in found.sentences if e.world != "3") for word in usual.codes}
    often = routes.Course(plain, found, {"3"}, unknown="four", held_out=0.0, rare=20)
    assert set(often.codes) == {".", *(word for word, count in counts.items() if count >= 20)} < set(usual.codes)
    rare = min(set(counts) - {"."}, key=lambda word: counts[word])
    assert often.encode([rare, "turn"]) == [routes.UNKNOWN, often.codes["turn"]]
    imaged = routes.Course(atlas, found, {"3"}, unknown="four", held_out=0.0, rare=20)
    assert set(often.codes) < set(imaged.codes)
    assert not set(imaged.codes) & (set(counts) - set(often.codes))


def test_a_route_without_a_heading_is_asked_from_all_four(course):
    example = course.sentences[0]
    free = example._replace(path=(example.path[0]._replace(heading=None), *example.path[1:]))
    asked, which = routes.questions(course, [free, example])
    assert which.tolist() == [0, 0, 0, 0, 1]
    assert [course.atlas.pose(example.world, state).heading for _, state in asked[:4]] == [0, 1, 2, 3]
    assert {words for words, _ in asked} == {example.words}


def test_agents_differ_and_learn_from_their_own_gradient(task):
    assert [tuple(agent) for agent in task.kinds] == [(0, True, True)] * 2 + [(0, False, True), (0, True, False)]
    batch = task.lessons()(np.random.default_rng(0), 6)
    (first,) = jax.tree.leaves(task.agents.weights["walker"]["did"])
    assert not np.allclose(first[0], first[1])
    gradient = jax.jit(jax.grad(lambda weights, batch: task.loss(weights, (), batch, None)[0]))
    alone = jax.tree.map(np.asarray, gradient(task.agents.weights, batch))
    changed = {name: array.copy() for name, array in batch.items()}
    changed["actions"][:, 1] = LEFT
    other = jax.tree.map(np.asarray, gradient(task.agents.weights, changed))
    for before, after in zip(jax.tree.leaves(alone), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(before[[0, 2, 3]], after[[0, 2, 3]], atol=1e-6)
    assert any(not np.allclose(a[1], b[1], atol=1e-4) for a, b in zip(*map(jax.tree.leaves, (alone, other)), strict=True))


def test_controls_see_nothing_or_are_told_nothing(task):
    batch = task.lessons()(np.random.default_rng(1), 6)
    losses = task.agents.losses(task.agents.weights, batch, None)["acts"]
    elsewhere = {**batch, "states": np.full_like(batch["states"], 7)}
    silent = {**batch, "tokens": np.where(batch["tokens"] > 2, 2, batch["tokens"])}
    for changed, control in ((elsewhere, 2), (silent, 3)):
        others = task.agents.losses(task.agents.weights, changed, None)["acts"]
        same = np.isclose(losses, others, atol=1e-6).tolist()
        assert same == [agent == control for agent in range(4)]


def script(task, actions):
    """Makes the agents do as they are told, whatever they see, and returns what they saw."""
    seen = []

    class Told:
        def listen(self, tokens):
            count = jnp.zeros((len(tokens), 1))
            return navigation.sj.attention.AttendCarry(count, (), (), count)

        def walk(self, carry, views, before):
            seen.append(views)
            now = jnp.asarray(actions)[carry.state[:, 0].astype(int)]
            return carry._replace(state=carry.state + 1), jax.nn.one_hot(now, 4)[None] * 9

    return Told(), seen


def test_walking_moves_the_agent_and_ends_at_stop(task, monkeypatch):
    course = task.courses[0]
    world = course.atlas.worlds["0"]
    start = next(
        world.pose(s)
        for s in range(len(world.moves))
        if world.open[s, FORWARD] and world.open[world.moves[s, RIGHT], FORWARD]
    )
    expected = world.move(world.move(world.move(start, RIGHT), FORWARD), LEFT)
    told, _ = script(task, [RIGHT, FORWARD, LEFT, STOP, FORWARD, FORWARD])
    monkeypatch.setattr(task.agents, "_model", lambda name, weights: told)
    (end,), which = task.follow(task.agents.weights, [0, 1], [Example("q", "0", ("go",), (start, expected))], length=6)
    assert end == expected
    assert which.tolist() == [0]
    (end,), _ = task.follow(
        task.agents.weights, [0, 1], [Example("q", "0", ("go",), (start, expected))], turned=False, length=6
    )
    assert end[:2] == expected[:2]


@pytest.mark.parametrize("seed", range(3))
def test_an_instruction_is_followed_however_it_is_cut(seed):
    rng = np.random.default_rng(seed)
    count, states = int(rng.integers(2, 6)), 4
    sentences = [(f"s{i}", "go") for i in range(count)]
    spans = list(itertools.combinations(range(count + 1), 2))
    chances = {span: rng.random((states, states)) / states for span in spans}
    numbers = {one_after_the_other(sentences[i:j]): (i, j) for i, j in spans}

    def stops(pieces):
        return [dict(enumerate(np.log(chances[numbers[words]][state]))) for words, state in pieces]

    whole = one_after_the_other(sentences)
    found, short = following.in_pieces(stops, [(whole, 1), (sentences[0], 2)])
    expected = np.zeros(states)
    for r in range(count):
        for cuts in itertools.combinations(range(1, count), r):
            ways = [chances[span] for span in itertools.pairwise((0, *cuts, count))]
            expected += np.linalg.multi_dot([np.eye(states), *ways])[1]
    np.testing.assert_allclose([math.exp(found[state]) for state in range(states)], expected, rtol=1e-12)
    np.testing.assert_allclose([short[state] for state in range(states)], np.log(chances[0, 1][2]), rtol=1e-12)


def test_the_rest_is_followed_from_the_likeliest_states_alone():
    asked = []

    def stops(pieces):
        asked.extend(pieces)
        return [{state: -float(state) for state in range(10)} for _ in pieces]

    following.in_pieces(stops, [(("a", ".", "b"), 3)])
    assert {state for words, state in asked if words == ("b",)} == set(range(following.KEPT))
    assert {state for words, state in asked if words != ("b",)} == {3}


def test_the_likeliest_place_need_not_be_that_of_the_likeliest_pose():
    found = {0: math.log(0.4), 1: math.log(0.35), 2: math.log(0.25)}
    assert following.likeliest(found, lambda state: state) == 0
    assert following.likeliest(found, lambda state: state > 0) == 1


def test_rows_of_about_equal_length_are_asked_together(monkeypatch):
    monkeypatch.setattr(routes, "ROWS", 3)
    codes = [[7] * n for n in (1, 16, 17, 5, 60, 3, 2, 33)]
    groups = list(routes.by_length(codes))
    assert sorted(i for rows, _ in groups for i in rows) == list(range(8))
    assert all(len(rows) <= 3 and max(len(codes[i]) for i in rows) <= length for rows, length in groups)
    assert {length for _, length in groups} == {16, 32, 64}


def test_a_pose_is_right_where_place_and_heading_are():
    right = navigation.right
    assert right(Pose(1, 2, 3), Pose(1, 2, 3), turned=True)
    assert not right(Pose(1, 2, 0), Pose(1, 2, 3), turned=True)
    assert right(Pose(1, 2, 0), Pose(1, 2, 3), turned=False)
    assert right(Pose(1, 2, 0), Pose(1, 2, None), turned=True)
    assert not right(Pose(2, 1, 3), Pose(1, 2, 3), turned=False)


@pytest.fixture(scope="module")
def speaking(found):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halls, "generate", generates(found))
        return navigation.Task(dataclasses.replace(SMALL, agents=2, speaker=0.25, width=3))


def test_agents_that_speak_walk_as_those_that_do_not(task, speaking):
    batch = task.lessons()(np.random.default_rng(2), 6)
    for key in (None, jax.random.key(3)):
        silent, found = (each.agents.losses(each.agents.weights, batch, key) for each in (task, speaking))
        np.testing.assert_array_equal(silent["acts"], found["acts"])
        assert set(silent) == {"acts"}
        assert set(found) == {"acts", "says"}
        assert len(set(found["says"].tolist())) == 4
    loss, _ = speaking.loss(speaking.agents.weights, (), batch, None)
    found = speaking.agents.losses(speaking.agents.weights, batch, None)
    np.testing.assert_allclose(loss, np.mean(found["acts"]) + np.mean(found["says"]), rtol=1e-6)


def one_by_one(speaking, agent, words, states, actions):
    """What an agent would say of a walk, word by word: nats of each and of the end."""
    model = speaking.agents._model("speaker", jax.tree.map(lambda leaf: leaf[agent], speaking.agents.weights))
    views = speaking.agents._views[np.array(states)]
    says = jax.jit(lambda *inputs: model(*inputs)[0])
    arguments = views[None], np.array(actions)[None], np.ones((1, len(actions)), bool)
    return np.asarray(says(np.array(words, np.int32)[None], *arguments))


def test_the_words_of_a_speaker_are_a_distribution(speaking):
    lesson = next(size for size in speaking.courses[0].several if size)[0]
    states, actions = lesson.ways[0]
    several = max(len(course.codes) for course in speaking.courses) + routes.UNKNOWN + 1
    alone = [one_by_one(speaking, 0, [word], states, actions)[0] for word in range(1, several)]
    end = one_by_one(speaking, 0, [], states, actions)[0]
    np.testing.assert_allclose(np.sum(np.exp([*alone, end])), 1.0, rtol=1e-5)


def test_what_is_said_does_not_depend_on_what_stands_beside(speaking):
    course, agents = speaking.courses[0], speaking.agents
    lessons = [lesson for size in course.several for lesson in size][:4]
    rows = [(lesson.codes, *lesson.ways[0]) for lesson in lessons]
    batch = {name: array[:, None].repeat(4, 1) for name, array in routes._rows(rows, routes.SIZES[-1]).items()}
    nats = np.concatenate([one_by_one(speaking, 1, *row) for row in rows])
    found = agents.losses(agents.weights, batch, None)["says"]
    np.testing.assert_allclose(found[1], -np.mean(nats), rtol=1e-4)


def test_where_agents_stop_is_judged_by_what_they_would_do_and_say(speaking):
    course, agents = speaking.courses[0], speaking.agents
    words = [course.encode(example.words) for example in course.sentences[:3]]
    states = np.array([course.atlas.state(e.world, e.path[0]._replace(heading=1)) for e in course.sentences[:3]], np.int32)
    deciding = agents.deciding(agents.weights, [0, 1])
    tokens = routes.pad(words, 16)
    ends, nats = agents.stops(deciding, tokens, states, 9)
    expected, acts, walks, actions, lengths = map(np.asarray, agents._search(deciding, tokens, states, 9))
    np.testing.assert_array_equal(ends, expected)
    assert np.all(lengths > 0)
    for w, n in np.ndindex(*lengths.shape):
        walk = walks[w, : lengths[w, n], n], actions[w, : lengths[w, n], n]
        says = np.log(np.mean([np.exp(one_by_one(speaking, agent, words[n], *walk)) for agent in (0, 1)], axis=0)).sum()
        np.testing.assert_allclose(nats[w, n], 0.75 * acts[w, n] + 0.25 * says, rtol=1e-4)


def test_a_run_ends_with_its_summary_and_is_recorded(found, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(halls, "generate", generates(found))
    monkeypatch.setattr(routes, "SIZES", ((24, 12),))  # one program instead of three
    with jax.numpy_dtype_promotion("standard"):  # optax.adamw relies on it
        summary = navigation.run(SMALL, "default", tmp_path / "run", record=True, quiet=True)
    names = {
        f"{part}{control}"
        for part in ("single_sentence", "paragraph")
        for control in ("", "_without_vision", "_without_language")
    }
    assert set(summary["metrics"]) == names
    assert all(0 <= share <= 1 for share in summary["metrics"].values())
    (line,) = (tmp_path / "results" / "navigation.jsonl").read_text().splitlines()
    assert set(json.loads(line)["metrics"]) == names


def test_what_agents_follow_alone_is_the_mean_of_each(task):
    alone = task.followed(task.agents.weights, "sentences", together=False)
    course, each = task.courses[0], []
    for agent in (0, 1):
        poses, _ = task.follow(task.agents.weights, [agent], course.sentences)
        each += [pose == example.path[-1] for pose, example in zip(poses, course.sentences, strict=True)]
    assert alone == np.mean(each)


def test_sizes_that_make_no_agent_are_refused():
    with pytest.raises(ValueError, match="navigation: agents must be at least 1, got 0"):
        navigation.Config(agents=0)
    with pytest.raises(ValueError, match="navigation: generated must be at least 0, got -1"):
        navigation.Config(generated=-1)
    with pytest.raises(ValueError, match="navigation: width is at most the number of actions, 4; got 5"):
        navigation.Config(width=5)
    with pytest.raises(ValueError, match=r"navigation: speaker is a share, from 0 to 1, got 1\.5"):
        navigation.Config(speaker=1.5)
