"""Stand-in: the stages of a workflow."""


class DAG:
    def __init__(self, dag_id):
        self.dag_id = dag_id
        self.stages = []

    def add_stages(self, stages):
        self.stages.extend(stages)
