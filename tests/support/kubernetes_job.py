"""A pod template of Lithops' Kubernetes backend."""

from __future__ import annotations

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: lithops-worker, namespace: default}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: lithops
          image: example.org/lithops:1
          command: [python3]
          env:
            - {name: ACTION, value: ''}
            - {name: DATA, value: ''}
            - {name: MASTER_POD_IP, value: ''}
            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
"""
