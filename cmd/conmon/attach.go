package main

import "github.com/spf13/cobra"

func attachCommand() *cobra.Command { return &cobra.Command{Use: "attach"} }
