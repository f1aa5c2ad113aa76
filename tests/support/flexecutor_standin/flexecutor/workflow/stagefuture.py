"""Stand-in: the futures of a stage."""


class StageFuture:
    def __init__(self, stage_id, futures):
        self.stage_id = stage_id
        self._futures = futures

    @property
    def stats(self):
        return [future.stats for future in self._futures]

    def error(self):
        return any(future.error for future in self._futures)

    def result(self):
        return [result for result, _ in self._futures.get_result()]

    def get_timings(self):
        timings = []
        for (_, times), stats in zip(self._futures.get_result(), self.stats, strict=True):
            times.cold_start = stats["worker_start_tstamp"] - stats["host_submit_tstamp"]
            timings.append(times)
        return timings
