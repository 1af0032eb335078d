"""A run's config and last metrics for TensorBoard's HPARAMS tab. Source: tensorboard's hparams plugin, plugin_data.proto and api.proto.

The config is the saved one: what comes from the environment stays `${oc.env:...}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

LEFT_OUT = {"arms", "axes", "tune", "events", "measures", "claims", "baseline", "figure", "cost", "recorded", "source", "log", "checks"}
LEFT_OUT |= {"checks_on_error"}
"""Of the root keys: what is about a study, or about how to look, and sets nothing of this training."""
ENDS = {"finished": "STATUS_SUCCESS", "running": "STATUS_RUNNING", "failed": "STATUS_FAILURE"}


def hparams(summary_of: Any, config: Mapping[str, Any], summary: Mapping[str, Any], name: str) -> list[Any]:
    """The plugin's three values: what there is, the run's settings, how it ended. `summary_of`: tensorboard's Summary class."""
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    settings = dict(flat({key: value for key, value in config.items() if key not in LEFT_OUT}))
    metrics = [tag for tag, value in (summary.get("metrics") or {}).items() if isinstance(value, (int, float))]
    kinds = {bool: "DATA_TYPE_BOOL", float: "DATA_TYPE_FLOAT64", str: "DATA_TYPE_STRING"}
    experiment = plugin_data_pb2.HParamsPluginData(
        experiment=api_pb2.Experiment(
            hparam_infos=[api_pb2.HParamInfo(name=key, type=kinds[type(value)]) for key, value in settings.items()],
            metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics],
        )
    )
    start = plugin_data_pb2.SessionStartInfo(group_name=name, start_time_secs=time.time() - float(summary.get("seconds") or 0.0))
    for key, value in settings.items():
        setattr(start.hparams[key], {bool: "bool_value", float: "number_value", str: "string_value"}[type(value)], value)
    status = ENDS.get(str(summary.get("status")), "STATUS_UNKNOWN")
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(status), end_time_secs=time.time())
    about = {
        "_hparams_/experiment": experiment,
        "_hparams_/session_start_info": plugin_data_pb2.HParamsPluginData(session_start_info=start),
        "_hparams_/session_end_info": plugin_data_pb2.HParamsPluginData(session_end_info=end),
    }
    return [_value(summary_of, tag, content) for tag, content in about.items()]


def _value(summary_of: Any, tag: str, content: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    empty = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape=tensor_shape_pb2.TensorShapeProto(), float_val=[0.0])
    return summary_of.Value(tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin), tensor=empty)


def flat(config: Any, before: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """The leaves of a config by dotted name: numbers as floats, truth values, all else as text; null is left out."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from flat(value, f"{before}.{key}" if before else str(key))
    elif isinstance(config, bool):
        yield before, config
    elif isinstance(config, (int, float)):
        yield before, float(config)
    elif config is not None and before:
        yield before, config if isinstance(config, str) else json.dumps(config, default=str)
